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

	"mpgate/proxy/filter"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// The codecs. byType has the codecs of Go types, bounded (values_quantity.go) those of Go types
// with bounds, and formats those that a tag "as" names.

var byType = map[reflect.Type]codec{
	reflect.TypeFor[string]():       plain(nil),
	reflect.TypeFor[slog.Level]():   levels,
	reflect.TypeFor[netip.Addr]():   ips,
	reflect.TypeFor[netip.Prefix](): of(network, netip.Prefix.String),
	reflect.TypeFor[fs.FileMode]():  modes,
	reflect.TypeFor[Address]():      of(dialed, dialedText),
	reflect.TypeFor[StatusRange]():  statusRanges,

	reflect.TypeFor[template.Template]():  templates,
	reflect.TypeFor[telemetry.LogField](): logFields,
	reflect.TypeFor[filter.Location]():    locations,
}

var formats = map[string]codec{
	"absolute_name":  plain(absoluteName),
	"access":         of(accessLog, same),
	"admin":          of(adminAddress, adminText),
	"base64":         plain(base64Of(base64.StdEncoding, "is not valid base64; must be the TSIG key as tsig-keygen prints it")),
	"base64url":      plain(base64Of(base64.URLEncoding, "is not valid base64url; must be the MAC key as the CA shows it")),
	"cert_host":      of(certHost, same),
	"claim":          of(claim, same),
	"clients":        networks(NetworkPrivate),
	"cookie_name":    plain(cookieName),
	"device":         plain(device),
	"dns_server":     of(dnsServer, Address.String),
	"email":          plain(email),
	"every":          resolveEvery,
	"exact_path":     plain(exactPath),
	"fd_name":        plain(fdName),
	"field":          folded(of(fieldName, same)),
	"file":           plain(filePath),
	"header":         plain(headerName),
	"host":           plain(func(s, _ string) (string, string) { return matchHost(s, true) }),
	"host_name":      plain(func(s, _ string) (string, string) { return hostName(s, false) }),
	"hsts":           plain(hsts),
	"http_url":       plain(httpURL),
	"https":          of(urlOf("https"), same),
	"jwt_algorithm":  jwtAlgorithms,
	"listen":         of(listened, Address.String),
	"local_name":     of(localName, same),
	"name":           withPattern(of(name, same), namePattern),
	"path":           plain(matchPath),
	"path_glob":      plain(pathGlob),
	"path_name":      pathNames,
	"path_query":     plain(pathQuery),
	"realm":          of(realm, same),
	"route_host":     plain(routeHost),
	"media_range":    of(mediaRange, same),
	"media_type":     plain(mediaType),
	"method":         of(method, same),
	"method_or_any":  of(methodOrAny, same),
	"origin":         of(corsOrigin, same),
	"request_field":  editedField("+host"),
	"response_field": editedField("host", "+host"),
	"resolver":       of(resolverAddress, netip.AddrPort.String),
	"rewrite":        plain(rewritten),
	"san":            of(certName, same),
	"server_name":    plain(serverName),
	"srv_name":       plain(srvName),
	"tls_version":    versions,
	"token_source":   of(tokenSource, same),
	"trusted":        networks(NetworkUnix, NetworkCertificate),
	"user_field":     folded(of(userField, same)),
	"webhook":        webhooks,
}

// plain returns a codec of strings; the empty string stands for no value.
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

// notOneOf returns the problem of a value that is not in an enumeration.
func notOneOf(s string, values []string) string {
	if near := nearest(s, values); near != "" {
		return fmt.Sprintf("is not one of its values; did you mean %q? Must be %s", near, orList(values))
	}
	return "is not one of its values; must be " + orList(values)
}

// orList returns `"a", "b" or "c"`.
func orList(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	return list(quoted, " or ")
}

// list joins items with commas, and the last two with word.
func list(items []string, word string) string {
	last := len(items) - 1
	if last < 1 {
		return strings.Join(items, "")
	}
	return strings.Join(items[:last], ", ") + word + items[last]
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

// accessLog parses one of the words for an access log, or returns the absolute path of a file.
func accessLog(s, dir string) (string, string) {
	words := []string{AccessStdout, AccessStderr, AccessOff}
	switch {
	case s == AccessStdout || s == AccessStderr || s == AccessOff:
		return s, ""
	case s == "":
		return "", `is empty; must be "stdout", "stderr", "off" or a file`
	case nearest(s, words) != "":
		// A file of that name is possible, but a typing error is more likely, and would be noticed
		// only when the log is needed.
		return "", fmt.Sprintf(`is not a known word; did you mean %q? Write "./%s" for a file of that name`, nearest(s, words), s)
	}
	return filePath(s, dir)
}

const namePattern = `^[a-z0-9][a-z0-9_-]{0,62}$`

// name parses the name of an entry.
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

// pathNames are names of paths. A name that is the interface or the address is not printed.
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

// filePath returns the absolute path of a file.
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

// modes are file modes in octal, such as "0660".
var modes = withPattern(of(func(s, _ string) (fs.FileMode, string) {
	if s == "tcp" || s == "http" {
		return 0, `is the file mode of unix sockets, such as "0660"; leave it out: HTTP is the default, and protocols = [ "tcp" ] forwards bytes`
	}
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n == 0 || n > 0o777 {
		return 0, `is not a valid file mode; must be octal, for example "0660"`
	}
	return fs.FileMode(n), ""
}, func(m fs.FileMode) string { return fmt.Sprintf("%04o", m.Perm()) }), `^0*[1-7][0-7]{0,2}$`)

// fdName parses a FileDescriptorName of systemd.
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

// urlOf parses an absolute URL with one of the schemes, or an empty string.
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

// webhooks are URLs that are printed without secrets.
var webhooks = func() codec {
	c := plain(urlOf("https", "http"))
	c.text = func(v reflect.Value) string { return withoutSecrets(v.String()) }
	return c
}()

// withoutSecrets hides the password of a URL and the values of its query, in which many services
// expect their key.
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
