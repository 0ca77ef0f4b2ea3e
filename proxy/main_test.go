package proxy_test

import (
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestMain holds all tests to leaving neither goroutines nor descriptors behind. The test binary is
// also the gateway in a place of its own: see gatewayChild.
func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		os.Exit(gatewayChild(spec))
	}
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", "32") // they mostly wait
	}
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
		after := descriptors()
		if n := len(after) - pipes(after); n > len(before)-pipes(before) || pipes(after) > pipes(before)+keptPipes {
			fmt.Fprintf(os.Stderr, "descriptors leaked: %d open before the tests, %d after: %q\n", len(before),
				len(after), after)
			code = 1
		}
	}
	os.Exit(code)
}

// keptPipes is how many descriptors of pipes netio keeps for the next splice.
const keptPipes = 128

func pipes(open []string) (n int) {
	for _, name := range open {
		if strings.HasPrefix(name, "pipe:") {
			n++
		}
	}
	return n
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
