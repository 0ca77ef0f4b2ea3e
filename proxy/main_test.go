package proxy_test

import (
	"fmt"
	"net"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain holds all tests to leaving neither goroutines nor descriptors behind.
func TestMain(m *testing.M) {
	warm, err := net.Listen("tcp", "127.0.0.1:0") // the poller's own descriptors
	if err == nil {
		_ = warm.Close()
	}
	before := descriptors()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines leaked:", err)
			code = 1
		}
		if after := descriptors(); len(after) > len(before) {
			fmt.Fprintf(os.Stderr, "descriptors leaked: %d open before the tests, %d after: %q\n", len(before), len(after), after)
			code = 1
		}
	}
	os.Exit(code)
}

func descriptors() (open []string) {
	list, _ := os.ReadDir("/proc/self/fd")
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			open = append(open, to)
		}
	}
	return open
}
