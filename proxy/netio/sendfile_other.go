//go:build !linux

package netio

import (
	"errors"
	"os"
)

type fileSender struct{}

// CanSendFile is false here.
func CanSendFile(*Conn) bool { return false }

// SendFile is not supported here.
func (c *Conn) SendFile(*os.File, int64, int64) (int64, error) { return 0, errors.ErrUnsupported }
