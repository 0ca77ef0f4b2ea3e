package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard lets requests pass that come over host:port: those that only read, for a name that no other
// site can point here. A site whose name resolves to this address (DNS rebinding) has a Host that is
// neither an address nor ours; one that sends a browser here by script has an Origin of its own.
func guard(name string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !hostAllowed(r.Host, name):
			http.Error(w, fmt.Sprintf("host %q is not answered; use the IP address, localhost or the name in [admin] address", r.Host), http.StatusForbidden)
		case !originAllowed(r.Header.Values("Origin"), r.Host):
			http.Error(w, "a request from another origin is not answered", http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "read-only over host:port; use a unix socket as [admin] address", http.StatusMethodNotAllowed)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// configuredName is the name in an address of the configuration, if it is a name.
func configuredName(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return host
}

func hostAllowed(hostport, name string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || (host != "" && host == strings.TrimSuffix(strings.ToLower(name), "."))
}

func originAllowed(origins []string, host string) bool {
	return len(origins) == 0 || (len(origins) == 1 && strings.EqualFold(origins[0], "http://"+host))
}
