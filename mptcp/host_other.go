//go:build !linux

package mptcp

func probe() Support {
	return Support{
		Why:    "this system has no MPTCP that Go programs can use",
		Remedy: "run on Linux 5.16 or later",
	}
}
