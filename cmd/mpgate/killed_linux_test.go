package main

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mpgate/gateway"
	"mpgate/internal/lab"
	"mpgate/mptcp"
)

// kernelPaths are the endpoints and limits of a place.
func kernelPaths(t *testing.T, p *lab.Place) (endpoints []mptcp.Endpoint, limits mptcp.Limits) {
	t.Helper()
	err := p.Do(func() error {
		pm, err := mptcp.OpenPathManager()
		if err != nil {
			return err
		}
		defer pm.Close()
		var err2 error
		endpoints, err = pm.Endpoints()
		limits, err2 = pm.Limits()
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
	return endpoints, limits
}

// TestKilled: what a process made that was killed is the next one's own: it makes the endpoint of a
// path again that was away, and takes back everything at its end, or at once if it is to manage
// nothing.
func TestKilled(t *testing.T) {
	l, p, file, _ := failing(t, "0.0.0.0:0")
	gw := l.Place("gateway")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const ours = `"ours_again":\["10.77.1.2","10.77.2.2","10.77.3.1","10.77.4.1"\],"changed_since":null,"gone":null,"limits":"ours"`
	kill := func() {
		t.Helper()
		before, _ := kernelPaths(t, gw)
		p.signal(syscall.SIGKILL)
		p.exits(-1)
		if left, _ := kernelPaths(t, gw); len(left) != 4 || !slices.Equal(left, before) {
			t.Fatalf("after the kill the kernel has %+v, before %+v", left, before)
		}
	}
	again := func() {
		t.Helper()
		p = start(t, within(gw), "run", "-c", file)
		p.ready()
	}
	told := func() {
		t.Helper()
		if !regexp.MustCompile(ours).MatchString(p.text()) {
			t.Errorf("it does not say what it found:\n%s", p.text())
		}
	}
	clean := func(when string) {
		t.Helper()
		if left, limits := kernelPaths(t, gw); len(left) != 0 || limits != (mptcp.Limits{Subflows: 2}) {
			t.Errorf("%s: left behind %+v, limits %+v", when, left, limits)
		}
	}

	kill()
	again()
	until(t, file, "all are ours", func(r *gateway.PathsReport) bool {
		return len(r.Endpoints) == 4 && !slices.ContainsFunc(r.Endpoints, func(e gateway.PathEndpoint) bool { return !isOurs(e) })
	})
	told()
	bounce(t, l, file, "front2", "10.77.2.2")
	p.signal(syscall.SIGTERM)
	p.exits(0)
	clean("after an end in order")

	again()
	until(t, file, "all are made", func(r *gateway.PathsReport) bool {
		return len(r.Endpoints) == 4 && !slices.ContainsFunc(r.Endpoints, func(e gateway.PathEndpoint) bool { return !isOurs(e) })
	})
	if strings.Contains(p.text(), "ours_again") {
		t.Errorf("something was found after an end in order:\n%s", p.text())
	}
	kill()
	off := strings.NewReplacer(`"sync"`, `"off"`, `"active"`, `"off"`).Replace(string(text))
	if err := os.WriteFile(file, []byte(off), 0o600); err != nil {
		t.Fatal(err)
	}
	again()
	untilClean := func(*gateway.PathsReport) bool { left, _ := kernelPaths(t, gw); return len(left) == 0 }
	until(t, file, "what is left is taken back", untilClean)
	told()
	p.signal(syscall.SIGTERM)
	p.exits(0)
	clean("after a start that manages nothing")
}
