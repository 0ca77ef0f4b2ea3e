//go:build !linux

package failover

import (
	"context"
	"errors"
)

// Measure fails: namespaces are Linux's.
func Measure(context.Context, Options) (*Report, error) { return nil, errors.ErrUnsupported }
