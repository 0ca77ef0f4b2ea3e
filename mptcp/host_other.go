//go:build !linux

package mptcp

func probe() Support {
	return Support{
		Why:    "MPTCP is not supported on this system",
		Remedy: "run on Linux 5.16 or later",
	}
}
