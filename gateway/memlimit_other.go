//go:build !linux

package gateway

import "math"

// memoryGroup is a control group, which there are none of.
type memoryGroup struct{ limit int64 }

// FollowCgroup does nothing where there are no control groups.
func FollowCgroup() int64 { return 0 }

func openMemoryGroup() *memoryGroup    { return nil }
func (*memoryGroup) close()            {}
func (*memoryGroup) cost() int64       { return 0 }
func (*memoryGroup) used() int64       { return -1 }
func (*memoryGroup) free() int64       { return math.MaxInt64 }
func (*memoryGroup) limitHeap(_ int64) {}
