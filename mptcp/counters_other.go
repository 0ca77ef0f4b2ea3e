//go:build !linux

package mptcp

import "errors"

// ReadCounters fails: this system has no such counters.
func ReadCounters() (Counters, error) { return nil, errors.ErrUnsupported }
