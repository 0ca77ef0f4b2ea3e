package backend

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/need"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// haproxy starts HAProxy on a unix socket, in front of a server that gets each connection after a
// delay, and returns its address.
func haproxy(t *testing.T, server string, delay time.Duration) string {
	t.Helper()
	bin := need.Program(t, "haproxy", "haproxy")
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	file := filepath.Join(dir, "haproxy.cfg")
	conf := fmt.Sprintf(`defaults
	mode tcp
	timeout client 60s
	timeout server 60s
	timeout connect 60s
listen all
	bind unix@%s
	tcp-request inspect-delay %dms
	tcp-request content accept if WAIT_END
	server one %s
`, socket, delay.Milliseconds(), strings.Replace(server, "unix:", "unix@", 1))
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-db", "-q", "-f", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	if !proxytest.Within(proxytest.Patience, func() bool { _, err := os.Stat(socket); return err == nil }) {
		t.Fatal("HAProxy does not start")
	}
	return "unix:" + socket
}

// A real server that is slow gets clearly fewer requests than real ones that are not, with least
// and with latency; with round_robin it gets its third, and all wait for it.
func TestUnequalRealServers(t *testing.T) {
	t.Parallel()
	const delay = 100 * time.Millisecond
	first, _ := nginx(t, `return 200 "fast\n"; keepalive_requests 1000000;`)
	second, _ := nginx(t, `return 200 "fast\n"; keepalive_requests 1000000;`)
	slow := haproxy(t, first, delay)
	for balance, most := range map[string]float64{"round_robin": 1, "least": .2, "latency": .2} {
		b, _ := pool(t, Options{Balance: balance, Servers: []ServerOptions{
			{Address: slow, MPTCP: mptcp.Off}, {Address: first, MPTCP: mptcp.Off}, {Address: second, MPTCP: mptcp.Off},
		}, Keep: Keep{Idle: -1}})
		var mu sync.Mutex
		got := map[string]int{}
		var times []time.Duration
		var left atomic.Int64
		left.Store(300)
		var group sync.WaitGroup
		for range 6 {
			group.Go(func() {
				for left.Add(-1) >= 0 {
					var a Attempt
					a.Reset(b)
					began := time.Now()
					up, err := a.Open(t.Context(), &Request{Now: began, Bodyless: true, Repeatable: true})
					if err != nil {
						t.Error(err)
						return
					}
					_ = exchange(t, up, "GET")
					now := time.Now()
					a.NoteAnswer(now.Sub(began), 200, now)
					mu.Lock()
					got[a.Server().Address]++
					times = append(times, now.Sub(began))
					mu.Unlock()
					a.End()
				}
			})
		}
		group.Wait()
		slices.Sort(times)
		slowly, all := got[slow], len(times)
		t.Logf("%s: the slow server got %d of %d requests; 99 %% were answered within %v", balance, slowly, all, times[all*99/100])
		if all != 300 || slowly == 0 || float64(slowly) > most*float64(all) {
			t.Errorf("%s: the slow server got %d of %d requests, want at most the share %v", balance, slowly, all, most)
		}
		if balance == "round_robin" && slowly != 100 {
			t.Errorf("round_robin: the slow server got %d of 300 requests, want 100", slowly)
		}
	}
}
