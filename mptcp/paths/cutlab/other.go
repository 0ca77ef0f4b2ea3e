//go:build !linux

package cutlab

import (
	"context"
	"errors"
)

// Measure fails: namespaces are Linux's.
func Measure(context.Context, Options) (*Report, error) { return nil, errors.ErrUnsupported }
