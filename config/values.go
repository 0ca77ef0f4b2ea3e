package config

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The codecs: what the values of each kind may be. byType has those that the type of a field tells,
// formats those that its tag "as" names.

var byType = map[reflect.Type]codec{
	reflect.TypeFor[string]():       plain(nil),
	reflect.TypeFor[slog.Level]():   levels,
	reflect.TypeFor[netip.Addr]():   ips,
	reflect.TypeFor[netip.Prefix](): of(network, netip.Prefix.String),
	reflect.TypeFor[fs.FileMode]():  modes,
	reflect.TypeFor[Address]():      of(dialed, Address.String),
}

var formats = map[string]codec{
	"absolute_name": plain(absoluteName),
	"access":        of(accessLog, same),
	"admin":         of(adminAddress, Address.String),
	"base64":        plain(base64Of(base64.StdEncoding, "is not valid base64; must be the TSIG key as tsig-keygen prints it")),
	"base64url":     plain(base64Of(base64.URLEncoding, "is not valid base64url; must be the MAC key as the CA shows it")),
	"cert_host":     of(certHost, same),
	"device":        plain(device),
	"dns_server":    of(dnsServer, Address.String),
	"email":         plain(email),
	"exact_path":    plain(exactPath),
	"fd_name":       plain(fdName),
	"file":          plain(filePath),
	"header":        plain(headerName),
	"host":          plain(func(s, _ string) (string, string) { return matchHost(s, true) }),
	"host_name":     plain(func(s, _ string) (string, string) { return hostName(s, false) }),
	"hsts":          plain(hsts),
	"https":         of(urlOf("https"), same),
	"listen":        of(listened, Address.String),
	"local_name":    of(localName, same),
	"name":          withPattern(of(name, same), namePattern),
	"path":          plain(matchPath),
	"path_name":     pathNames,
	"san":           of(certName, same),
	"server_name":   plain(func(s, _ string) (string, string) { return matchHost(s, false) }),
	"tls_version":   versions,
	"trusted":       of(trusted, netip.Prefix.String),
	"webhook":       webhooks,
}

// plain makes a codec of strings that may be empty, for none.
func plain(parse func(s, dir string) (string, string)) codec {
	if parse == nil {
		parse = func(s, _ string) (string, string) { return s, "" }
	}
	c := of(parse, same)
	c.empty = true
	return c
}

func same(s string) string { return s }

func withPattern(c codec, pattern string) codec {
	c.pattern = pattern
	return c
}

// notOneOf is the problem of a value that an enumeration does not have.
func notOneOf(s string, values []string) string {
	if near := nearest(s, values); near != "" {
		return fmt.Sprintf("is not one of its values; did you mean %q? Must be %s", near, orList(values))
	}
	return "is not one of its values; must be " + orList(values)
}

// orList is `"a", "b" or "c"`.
func orList(names []string) string {
	var b strings.Builder
	for i, n := range names {
		switch {
		case i == 0:
		case i == len(names)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(strconv.Quote(n))
	}
	return b.String()
}

var levels = func() codec {
	values := []string{"debug", "info", "warn", "error"}
	c := of(func(s, _ string) (slog.Level, string) {
		i := slices.Index(values, s)
		if i < 0 {
			return 0, notOneOf(s, values)
		}
		return slog.Level(4*i - 4), ""
	}, func(l slog.Level) string { return strings.ToLower(l.String()) })
	c.values = values
	return c
}()

// accessLog is the absolute path of a file, or one of the words.
func accessLog(s, dir string) (string, string) {
	words := []string{AccessStdout, AccessStderr, AccessOff}
	switch {
	case s == AccessStdout || s == AccessStderr || s == AccessOff:
		return s, ""
	case s == "":
		return "", `is empty; must be "stdout", "stderr", "off" or a file`
	case nearest(s, words) != "":
		// A file of that name is possible, but a typing error is likely, and it would be found only
		// when the log is needed.
		return "", fmt.Sprintf(`is not a known word; did you mean %q? Write "./%s" for a file of that name`, nearest(s, words), s)
	}
	return filePath(s, dir)
}

// durations are the times of at least least.
func durations(least string) codec {
	shortest, err := time.ParseDuration(least)
	if err != nil {
		panic("config: a bound of the declarations: " + err.Error())
	}
	return withPattern(of(func(s, _ string) (time.Duration, string) {
		d, err := time.ParseDuration(s)
		switch {
		case err != nil:
			return 0, `is not a valid duration; write a number and a unit, for example "500ms", "10s" or "2m"`
		case d < shortest:
			return 0, fmt.Sprintf("is too short; must be at least %v", shortest)
		}
		return d, ""
	}, duration), `^[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$|^[+-]?0$`)
}

// duration is d without the zero units of its String: 1m0s is 1m.
func duration(d time.Duration) string {
	t := d.String()
	if strings.HasSuffix(t, "m0s") {
		t = strings.TrimSuffix(t, "0s")
	}
	if strings.HasSuffix(t, "h0m") {
		t = strings.TrimSuffix(t, "0m")
	}
	return t
}

var units = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}}

// sizes are the numbers of bytes from min to max.
func sizes(min, max string) codec {
	least, ok := parseSize(min)
	most, ok2 := parseSize(max)
	if !ok || !ok2 {
		panic("config: the bounds " + min + " and " + max + " of the declarations are not sizes")
	}
	return withPattern(of(func(s, _ string) (int64, string) {
		n, ok := parseSize(s)
		switch {
		case !ok:
			return 0, `is not a valid size; write a whole number and B, KiB, MiB or GiB, for example "32KiB", or "0"`
		case n < least || n > most:
			return 0, fmt.Sprintf("is out of range; must be from %s to %s", formatSize(least), formatSize(most))
		}
		return n, ""
	}, formatSize), `^0$|^\s*[0-9]+\s*([KMG]i)?B$`)
}

func parseSize(s string) (int64, bool) {
	if s == "0" {
		return 0, true
	}
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 32)
		return int64(n) * u.bytes, err == nil
	}
	return 0, false
}

func formatSize(n int64) string {
	switch {
	case n == 0:
		return "0"
	case n%(1<<30) == 0:
		return strconv.FormatInt(n>>30, 10) + "GiB"
	case n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + "MiB"
	case n%(1<<10) == 0:
		return strconv.FormatInt(n>>10, 10) + "KiB"
	}
	return strconv.FormatInt(n, 10) + "B"
}

const namePattern = `^[a-z0-9][a-z0-9_-]{0,62}$`

// name is the name of an entry.
func name(s, _ string) (string, string) {
	if !isName(s) {
		return s, "is not a valid name; must be of a-z, 0-9, _ and -, begin with a letter or a digit, and be at most 63 long"
	}
	return s, ""
}

func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// pathNames are names, and not printed where they are the interface or the address instead.
var pathNames = func() codec {
	c := plain(name)
	c.pattern = namePattern
	c.text = func(v reflect.Value) string {
		if isName(v.String()) {
			return v.String()
		}
		return ""
	}
	return c
}()

// filePath is the absolute path of a file.
func filePath(s, dir string) (string, string) {
	if strings.IndexByte(s, 0) >= 0 {
		return "", "is not a valid path; a path has no NUL in it"
	}
	return absolute(dir, s), ""
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// modes are octal, "0660".
var modes = withPattern(of(func(s, _ string) (fs.FileMode, string) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n == 0 || n > 0o777 {
		return 0, `is not a valid file mode; must be octal, for example "0660"`
	}
	return fs.FileMode(n), ""
}, func(m fs.FileMode) string { return fmt.Sprintf("%04o", m.Perm()) }), `^0*[1-7][0-7]{0,2}$`)

// fdName is a FileDescriptorName of systemd.
func fdName(s, _ string) (string, string) {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == ':' || len(s) > 255 {
			return "", "is not a valid FileDescriptorName; must be printable ASCII without spaces and colons, at most 255 long"
		}
	}
	return s, ""
}

func email(s, _ string) (string, string) {
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || !strings.Contains(domain, ".") || strings.ContainsAny(s, " \t\r\n,<>") || strings.Contains(domain, "@") {
		return "", `is not a valid email address; must be for example "admin@example.org"`
	}
	return s, ""
}

func base64Of(enc *base64.Encoding, problem string) func(s, _ string) (string, string) {
	return func(s, _ string) (string, string) {
		e := enc
		if !strings.HasSuffix(s, "=") {
			e = enc.WithPadding(base64.NoPadding)
		}
		if _, err := e.DecodeString(s); err != nil {
			return "", problem
		}
		return s, ""
	}
}

// urlOf is an absolute URL with one of the schemes, or empty.
func urlOf(schemes ...string) func(s, _ string) (string, string) {
	return func(s, _ string) (string, string) {
		if s == "" {
			return "", ""
		}
		u, err := url.Parse(s)
		if err == nil && u.Host != "" {
			for _, scheme := range schemes {
				if u.Scheme == scheme {
					return s, ""
				}
			}
		}
		return "", fmt.Sprintf("is not a valid URL; must be for example %q", schemes[0]+"://host/path")
	}
}

// webhooks are URLs, printed without what may be secret in them.
var webhooks = func() codec {
	c := plain(urlOf("https", "http"))
	c.text = func(v reflect.Value) string { return withoutSecrets(v.String()) }
	return c
}()

// withoutSecrets hides the password of a URL, and the values of its query: many services take their
// key there.
func withoutSecrets(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	_, password := u.User.Password()
	if !password && u.RawQuery == "" {
		return s
	}
	if q := u.Query(); len(q) > 0 {
		for name := range q {
			q[name] = []string{"xxxxx"}
		}
		u.RawQuery = q.Encode()
	} else if u.RawQuery != "" {
		u.RawQuery = "xxxxx"
	}
	return u.Redacted()
}
