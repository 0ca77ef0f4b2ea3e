package config

import (
	"path/filepath"
	"strconv"
)

// The defaults of every key that has one, table by table. The decoder calls setDefaults before it reads a table. What has none here is
// empty (and says nothing), or required.

func (r *rawConfig) setDefaults() {}

func (r *rawLog) setDefaults() {
	r.Level.V = "info"
	r.Format.V = string(LogJSON)
	r.Access.V = AccessStdout
}

func (r *rawShutdown) setDefaults() { r.Drain.V = "30s" }

func (r *rawLimits) setDefaults() {
	r.HeaderBytes.V = "32KiB"
	r.HeaderFields.V = 100
	r.HeaderTime.V = "10s"
	r.IdleTime.V = "60s"
	r.MinRate.V = "256B"
}

func (r *rawMPTCP) setDefaults() {
	r.Enabled.V = true
	r.Manage.V = string(ManageOff)
	r.Failover.V = string(FailoverOff)
}

func (r *rawMPTCPLimits) setDefaults() {
	r.Subflows.V = 4
	r.AddAddrAccepted.V = 4
}

func (r *rawPath) setDefaults() { r.Role.V = string(RoleBoth) }

func (r *rawListener) setDefaults() {
	r.Mode.V = "0660"
	r.MPTCP.V = string(MPTCPPrefer)
	r.ProxyProtocol.V = string(ProxyOff)
}

// defaultProtocols are a listener's where none are written.
func defaultProtocols(tls bool) []Protocol {
	if tls {
		return []Protocol{H1, H2}
	}
	return []Protocol{H1}
}

func (r *rawTLSKeys) setDefaults() {
	r.MinVersion.V = "1.2"
	r.ClientAuth.V = string(ClientAuthOff)
}

func (r *rawACME) setDefaults() {
	r.CA.V = "https://acme-v02.api.letsencrypt.org/directory"
	r.Challenges.V = []str{{V: string(HTTP01)}, {V: string(TLSALPN01)}} // with a dns table it is dns-01 alone
	r.KeyType.V = string(P256)
}

func (r *rawDNS) setDefaults() {
	r.Delay.V = "0s"
	r.Timeout.V = "2m"
}

func (r *rawRFC2136) setDefaults() { r.KeyAlg.V = "hmac-sha256" }

func (r *rawRoute) setDefaults() {
	r.EncodedSlash.V = string(Reject)
	r.DuplicateSlashes.V = string(Merge)
	r.UnsafeHeaderNames.V = string(Drop)
}

func (r *rawBackend) setDefaults() {
	r.Balance.V = string(RoundRobin)
	r.Protocol.V = string(H1)
	r.MPTCP.V = string(MPTCPPrefer)
	r.ConnectTimeout.V = "5s"
	r.ResponseTimeout.V = "60s"
	r.IdleTimeout.V = "60s"
	r.SendProxy.V = string(SendProxyOff)
}

func (r *rawBackendTLS) setDefaults() { r.Verify.V = true }

func (r *rawServer) setDefaults() { r.Weight.V = 1 }

// user is who mpgate runs as: where the defaults for the admin socket and the state directory depend on it.
type user struct {
	uid    int
	lookup func(string) (string, bool)
}

func (u user) env(name string) string {
	v, _ := u.lookup(name)
	return v
}

// adminAddress is the default of admin.address. Where the directory does not exist, who opens the socket says so.
// RUNTIME_DIRECTORY is what systemd sets for RuntimeDirectory=; it may be a list.
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

// stateDir is the default of state_dir. STATE_DIRECTORY is what systemd sets for StateDirectory=; it may be a list.
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
