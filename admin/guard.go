package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// monitoringPaths are the paths that monitoring systems and balancers read. These may use any host
// name for this address, such as that of a compose service.
var monitoringPaths = map[string]bool{"/metrics": true, "/healthz": true, "/readyz": true}

// guard checks requests over host:port. They may only read. All but those for monitoringPaths must
// have an address or the configured name as Host: a site whose name resolves to this address (DNS
// rebinding) has a Host that is neither. A site whose script sends requests here has another
// Origin.
func guard(name string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !monitoringPaths[r.URL.Path] && !hostAllowed(r.Host, name):
			http.Error(w, fmt.Sprintf("host %q is not allowed; use the IP address, localhost or the name in [admin] address", r.Host), http.StatusForbidden)
		case !originAllowed(r.Header.Values("Origin"), r.Host):
			http.Error(w, "requests from another origin are not allowed", http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "read-only over host:port; use a unix socket as [admin] address", http.StatusMethodNotAllowed)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// guardBrowser checks requests over a unix socket. Programs connect to it directly; a browser can
// only through a forwarding such as that of ssh -L, and then a site could send it requests, too.
// What changes something must come from the page itself, at an address or localhost.
func guardBrowser(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		browser := r.Header.Get("Sec-Fetch-Site") != "" || r.Header.Get("Origin") != ""
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		site := r.Header.Get("Sec-Fetch-Site")
		if browser && !reads && (!hostAllowed(r.Host, "") || !originAllowed(r.Header.Values("Origin"), r.Host) || site == "cross-site" || site == "same-site") {
			http.Error(w, "requests from another origin are not allowed", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
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
