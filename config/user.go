package config

import (
	"path/filepath"
	"strconv"
)

// user is the account of the process. The defaults of the admin socket and the state directory
// depend on it.
type user struct {
	uid    int
	lookup func(string) (string, bool)
}

func (u user) env(name string) string {
	v, _ := u.lookup(name)
	return v
}

// adminAddress returns the default of admin.address. Whether its directory exists is not checked
// here. systemd sets RUNTIME_DIRECTORY for RuntimeDirectory=; it may be a list.
func (u user) adminAddress() string {
	if dir := filepath.SplitList(u.env("RUNTIME_DIRECTORY")); len(dir) > 0 && filepath.IsAbs(dir[0]) {
		return "unix:" + filepath.Join(dir[0], "admin.sock")
	}
	if u.uid == 0 {
		return "unix:/run/mpgate/admin.sock"
	}
	dir := u.env("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(dir) {
		dir = filepath.Join("/run/user", strconv.Itoa(u.uid))
	}
	return "unix:" + filepath.Join(dir, "mpgate", "admin.sock")
}

// stateDir returns the default of state_dir. systemd sets STATE_DIRECTORY for StateDirectory=; it
// may be a list.
func (u user) stateDir() string {
	if dir := filepath.SplitList(u.env("STATE_DIRECTORY")); len(dir) > 0 && filepath.IsAbs(dir[0]) {
		return dir[0]
	}
	if u.uid == 0 {
		return "/var/lib/mpgate"
	}
	if dir := u.env("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "mpgate")
	}
	if home := u.env("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "mpgate")
	}
	return "/var/lib/mpgate"
}
