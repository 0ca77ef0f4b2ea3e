package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnixSocket(t *testing.T) {
	path := socketPath(t) // its directory does not exist
	s := start(t, Options{Address: "unix:" + path})
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Type() != fs.ModeSocket || st.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, want a socket with 0660", st.Mode())
	}
	if s.Addr() != "unix:"+path {
		t.Errorf("Addr: got %s", s.Addr())
	}
	_, err = Open(t.Context(), Options{Address: "unix:" + path})
	if want := "admin: unix:" + path + ": another process listens there; is this gateway running already?"; err == nil || err.Error() != want {
		t.Errorf("a live socket: got %v\nwant %s", err, want)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left beside the socket: %v, %v", entries, err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // what a killed process leaves
	c := dial(t, start(t, Options{Address: "unix:" + path}).Addr())
	if err := c.Get(t.Context(), "/healthz", nil); err != nil {
		t.Error(err)
	}
}

// An upgrade: the old process is found until the new one takes the place, and does not take that
// away when it ends.
func TestSucceed(t *testing.T) {
	path := socketPath(t)
	says := func(who string) Options {
		return Options{Address: "unix:" + path, Succeed: who != "old", Status: func() any { return who }}
	}
	found := func(want string) {
		t.Helper()
		var who string
		if err := dial(t, "unix:"+path).Get(t.Context(), "/api/status", &who); err != nil || who != fmt.Sprintf("%q\n", want) {
			t.Errorf("found %q, %v; want %q", who, err, want)
		}
	}
	old := start(t, says("old"))
	if failed := start(t, says("failed")); failed.Close(t.Context()) != nil {
		t.Error("not closed")
	}
	found("old")
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left beside the socket: %v, %v", entries, err)
	}
	next := start(t, says("next"))
	found("old")
	for range 2 {
		if err := next.TakePlace(); err != nil {
			t.Fatal(err)
		}
		found("next")
	}
	if err := old.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	found("next")
	if err := next.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("left in the end: %v, %v", entries, err)
	}
}

func TestHandedOverListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Address: "unix:" + path, Listener: l})
	if err := dial(t, s.Addr()).Get(t.Context(), "/healthz", nil); err != nil {
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the path is not ours to remove: %v", err)
	}
}

// The name that is bound first is longer than the one that was asked for: the limit is on that one.
func TestLongestPath(t *testing.T) {
	dir, err := os.MkdirTemp("", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, strings.Repeat("x", maxSocketPath-len(dir)-1))
	c := dial(t, start(t, Options{Address: "unix:" + path}).Addr())
	if err := c.Get(t.Context(), "/healthz", nil); err != nil {
		t.Error(err)
	}
}

func TestAddressesThatFail(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	long := "/" + strings.Repeat("x", maxSocketPath)
	for address, want := range map[string]string{
		"unix:" + file:        "admin: unix:" + file + ": a file that is not a socket is there; remove it or choose another path",
		"unix:" + file + "/a": "admin: directory of the unix socket: mkdir " + file + ": not a directory",
		"unix:relative":       `admin: unix socket (got "relative", 8 bytes); an absolute path of at most 107 bytes`,
		"unix:" + long:        `admin: unix socket (got "` + long + `", 108 bytes); an absolute path of at most 107 bytes`,
		"nothing":             `admin: address (got "nothing"); unix:/path or host:port`,
		taken.Addr().String(): "admin: listen tcp " + taken.Addr().String() + ": bind: address already in use",
	} {
		if _, err := Open(t.Context(), Options{Address: address}); err == nil || err.Error() != want {
			t.Errorf("%s: got %v\nwant %s", address, err, want)
		}
	}
}
