//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: it reads costs from Linux's /proc and uses Linux's MPTCP; run it on Linux")
	os.Exit(1)
}
