package config

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
)

// foreign are keys of other proxies' configurations, and what is right here.
//
// The names are compared without regard to case, - and _. Of several entries the first one counts
// whose key needs is declared. in are the tables in which it counts, empty for all; "." is the
// file.
var foreign = []struct{ names, in, needs, right string }{
	// Where requests go.
	{"proxy_pass reverse_proxy fastcgi_pass uwsgi_pass grpc_pass default_backend use_backend service", "", "route.backend",
		`name the servers in a [[backend]], and write backend = "NAME" in the [[route]]`},
	{"upstream upstreams cluster clusters load_balancer services pool origin origins", "", "backend",
		`write a [[backend]] with a name and servers = [ { address = "10.0.1.10:8080" } ]`},
	{"server backend_server host_port target targets endpoint endpoints url", "backend", "backend.servers",
		`write servers = [ { address = "10.0.1.10:8080" } ]`},
	{"url uri host hostname ip server target addr", "backend.servers", "backend.servers.address",
		`write address = "10.0.1.10:8080", without http://`},
	{"x_accel_redirect accel x_accel sendfile x_sendfile handle_response", "", "route.accel_redirect",
		"write accel_redirect = true in the [[route]] of the server, and internal = true in that of the files"},
	{"port", "backend.servers", "backend.servers.address", `write the port in address, such as address = "10.0.1.10:8080"`},
	{"lb_policy lb_policies lb_algorithm load_balancing strategy policy algorithm", "backend", "backend.balance",
		`write balance, whose values "mpgate config --schema" lists`},
	{"lb_policy load_balancing", "", "backend.balance", "write balance in the [[backend]]"},
	{"check checks health_check health_checks health_uri health_path health_interval option_httpchk httpchk", "backend", "backend.check",
		`write check = { path = "/healthz" }`},
	{"max_fails fail_timeout circuit_breaker outlier_detection observe", "backend backend.servers", "backend.eject", "write eject = { errors = 5 } in the [[backend]]"},
	{"maxconn max_conns", "backend backend.servers", "backend.max_requests", "write max_requests"},
	{"ip_hash hash_policy hash_type consistent_hash", "backend", "backend.hash", `write balance = "hash" and, for another key than the client's address, hash = "{uri}"`},
	{"sticky_session stickiness session_affinity stick_table stick", "backend", "backend.sticky", `write sticky = { cookie = "srv" }`},
	{"lb_try_duration lb_retries retries proxy_next_upstream redispatch", "", "backend.retry", "write retry = { tries = 3 } in the [[backend]]"},
	{"keepalive", "backend", "backend.keep", "write keep = { idle = 64 }"},
	{"proxy_connect_timeout dial_timeout timeout_connect", "", "backend.connect_timeout", `write connect_timeout = "5s" in the [[backend]]`},
	{"proxy_read_timeout timeout_server response_header_timeout read_timeout", "", "backend.response_timeout",
		`write response_timeout = "60s" in the [[backend]], or idle_timeout for the pauses within a response`},
	{"proxy_send_timeout timeout_tunnel", "", "backend.idle_timeout", `write idle_timeout = "60s" in the [[backend]]`},
	{"timeout timeouts", "backend", "backend.response_timeout", "write connect_timeout, response_timeout or idle_timeout"},
	{"send_proxy_v2", "backend backend.servers", "backend.send_proxy", `write send_proxy = "v2" in the [[backend]]`},
	{"insecure_skip_verify proxy_ssl_verify tls_insecure_skip_verify ssl_verify", "", "backend.tls.verify", "write tls = { verify = false } in the [[backend]]; better name the CA: tls = { ca = FILE }"},
	{"ssl", "backend backend.servers", "backend.tls", "write tls = {} in the [[backend]]"},
	{"proxy_http_version", "", "backend.protocol", `write protocol = "h1" or "h2" in the [[backend]]`},

	// Where clients connect.
	{"bind listen entry_point", "listener", "listener.address", `write address = ":8080"`},
	{"server servers", ".", "listener", "write a [[listener]] for each address, a [[route]] for each host and path, and a [[backend]] for the servers"},
	{"entry_points entry_point bind listen listens listeners frontend frontends http_listen", "", "listener.address",
		`write a [[listener]] with a name and address = ":8080"; a route for one listener has match = { listener = "NAME" }`},
	{"port ports", "listener", "listener.address", `write the port in address, such as address = ":8080"`},
	{"accept_proxy", "", "listener.proxy_protocol", `write proxy_protocol = "required" and proxy_protocol_from in the [[listener]]`},
	{"set_real_ip_from real_ip_header forwarded_headers trusted_ips", "", "listener.trusted_proxies", `write trusted_proxies = [ "10.0.0.0/8" ] in the [[listener]]`},
	{"ssl_certificate ssl_certificate_key crt certificate cert key cert_file key_file tls_cert tls_key", "listener", "listener.tls.certificates",
		`write [listener.tls] and in it certificates = [ { cert = "a.pem", key = "a.key" } ]`},
	{"ssl_certificate ssl_certificate_key crt cert_file key_file", "", "listener.tls.certificates", `write certificates = [ { cert = "a.pem", key = "a.key" } ] in [listener.tls]`},
	{"cert_resolver certificates_resolvers lets_encrypt auto_https auto_cert", "", "listener.tls.acme.domains", `write acme = { domains = [ "example.org" ] } in [listener.tls]`},
	{"ssl ssl_protocols https", "listener", "listener.tls", "write [listener.tls] with certificates, acme or local = true"},
	{"ssl_protocols tls_min_version", "", "listener.tls.min_version", `write min_version = "1.2" in [listener.tls]`},
	{"hsts strict_transport_security", "listener route", "listener.tls.hsts", `write hsts = "max-age=31536000" in [listener.tls]`},
	{"mode", "listener.tls", "listener.protocols", `mode is the file mode of a unix socket, in the [[listener]]; for bytes instead of HTTP write protocols = [ "tcp" ]`},
	{"http https tcp stream", "", "listener.protocols", `write a [[listener]], for bytes instead of HTTP with protocols = [ "tcp" ]`},

	// Which requests.
	{"location locations handle path_prefix prefix path_beg", "", "route.match.path", `write match = { path = "/api/*" } in the [[route]]`},
	{"server_name server_names hosts host_name domain domains virtual_host virtual_hosts vhost hdr", "", "route.match.host", `write match = { host = "example.org" } in the [[route]]`},
	{"rule rules acl acls matcher matchers condition use_rule", "", "route.match", `write match = { host = "example.org", path = "/api/*" } in the [[route]]`},
	{"routers router http_routers handlers sites site", "", "route", `write a [[route]] with a name, match and backend = "NAME"`},
	{"priority", "route", "route.match", "the most specific match wins, whatever the order; leave it out"},
	{"methods", "route route.match", "route.match.method", `write match = { method = [ "GET" ] }`},
	{"headers", "route.match", "route.match.header", `write header = { Upgrade = "websocket" }`},
	{"remote_ip client_ip source_ip src", "route route.match", "route.match.client", `write match = { client = [ "10.0.0.0/8" ] }`},

	// What becomes of them.
	{"handle_path strip_prefix strip_path uri_strip_prefix path_strip add_prefix replace_path replace_path_regex rewrite_target url_rewrite", "", "",
		`write rewrite = "/*" in the [[route]]: * is what the last * of match.path stands for`},
	{"redir redirects redirect_scheme redirect_regex redirect_to", "", "", `write redirect = { to = "https://{host}{uri}" } in the [[route]]`},
	{"redirect_scheme https_redirect force_https force_ssl", "", "listener.redirect_https", "write redirect_https = true in the [[listener]] for plain HTTP"},
	{"return", "", "", `write redirect = { to = "https://{host}{uri}" } or answer = { status = 404 } in the [[route]]`},
	{"respond static_response fixed_response", "", "", "write answer = { status = 404 } in the [[route]]"},
	{"root alias file_server try_files static webroot document_root index autoindex", "", "",
		`write files = { root = "/srv/www" } in the [[route]]`},
	{"gzip gzip_types gzip_static encode brotli zstd compression", "", "", "write compress = true in the [[route]]"},
	{"middlewares middleware plugins chain snippets import", "", "", `write a set of keys as [[filters]] with a name, and use = [ "NAME" ] in the [[route]]`},
	{"add_header response_header header_down custom_response_headers http_response", "", "", `write response_headers = { X-Frame-Options = "DENY" } in the [[route]]`},
	{"proxy_set_header request_header header_up custom_request_headers http_request", "", "", `write request_headers = { X-Tenant = "a" } in the [[route]]`},
	{"headers header", "route listener", "", "write request_headers or response_headers in the [[route]]; to match one, match = { header = { … } }"},
	{"pass_host_header preserve_host", "", "", `the Host of the client is kept; to send the server's, write request_headers = { Host = "{server_host}" } in the [[route]]`},
	{"client_max_body_size request_body max_body_size max_request_body_bytes", "", "", `write limit = { body = "20MiB" } in the [[route]]`},
	{"limit_req limit_req_zone rate_limit rate_limiting", "", "", `write limit = { rate = "30/s" } in the [[route]]`},
	{"limit_conn in_flight_req", "", "", "write limit = { per_key = 10 } in the [[route]]"},
	{"auth_basic auth_basic_user_file basicauth htpasswd", "", "", `write basic_auth = { users = "htpasswd" } in the [[route]]`},
	{"auth_request forwardauth ext_authz external_auth auth_url", "", "", `write forward_auth = { url = "http://auth:9091/verify" } in the [[route]]`},
	{"ip_allow_list ip_white_list whitelist allowlist ip_restriction", "", "", `write allow = [ "10.0.0.0/8" ] in the [[route]]`},
	{"error_page errorfile error_file handle_errors custom_errors", "", "", `write error_pages = { "502-504" = "down.html" } in the [[route]]`},
	{"expires cache_control", "", "", `write response_headers = { Cache-Control = "max-age=3600" } in the [[route]]`},
	{"cors_policy access_control_allow_origin allow_origins", "", "", `write cors = { origins = [ "https://a.org" ] } in the [[route]]`},
	{"websocket websockets upgrade", "", "route", "WebSocket needs no key; leave it out"},

	// The rest.
	{"access_log", "", "log.access", `write access = "FILE" in [log]`},
	{"error_log log_level", "", "log.level", `the program's own log goes to standard error; write level = "info" in [log]`},
	{"worker_processes worker_connections nbthread nbproc threads", "", "limits.connections", "mpgate uses all processors; leave it out. The limit of connections is limits.connections"},
	{"maxconn max_connections", "listener global defaults", "limits.connections", "write connections in [limits]"},
	{"client_header_timeout client_body_timeout timeout_client timeout_http_request keepalive_timeout", "", "limits.header_time", "write header_time or idle_time in [limits]"},
	{"large_client_header_buffers", "", "limits.header_bytes", `write header_bytes = "32KiB" in [limits]`},
	{"api dashboard metrics stats ping prometheus", "", "admin.address", `write address = "127.0.0.1:9080" in [admin]: metrics, health and a page are there`},
	{"global events providers proxy_buffering", "", "log", "there is nothing to set here; leave it out"},
	{"proxy_cache proxy_cache_path cache fastcgi_param php_fastcgi templates lua", "", "route", "mpgate does not have this; forward such requests to a server that does"},
}

// rightFor returns what to write in place of a key of another proxy in the table at a place, "" if
// it is not one.
func rightFor(name string, table *place) string {
	name = plainName(name)
	for _, f := range foreign {
		if slices.ContainsFunc(strings.Fields(f.names), func(s string) bool { return plainName(s) == name }) &&
			(f.in == "" || slices.Contains(strings.Fields(f.in), cmp.Or(table.pattern(), "."))) &&
			(f.needs == "" || declares(reflect.TypeFor[Config](), f.needs)) {
			return f.right
		}
	}
	return ""
}

// plainName returns a name as foreign compares it: stripPrefix, strip-prefix and strip_prefix are
// the same.
func plainName(s string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s))
}

// declares reports whether a table has a key, given by its path.
func declares(table reflect.Type, path string) bool {
	name, rest, more := strings.Cut(path, ".")
	i := slices.IndexFunc(keys[table], func(k key) bool { return k.name == name })
	if i < 0 || !more {
		return i >= 0
	}
	k := keys[table][i]
	return k.table != nil && declares(k.table, rest)
}

// tablesWith returns the headings of the tables of a file that have a key, without the tables in
// these: the keys of [defaults] are such tables.
func tablesWith(name string) (found []string) {
	for _, top := range keys[reflect.TypeFor[Config]()] {
		switch {
		case top.table == nil || top.table == reflect.TypeFor[Defaults]() || !declares(top.table, name):
		case top.list:
			found = append(found, "[["+top.name+"]]")
		default:
			found = append(found, "["+top.name+"]")
		}
	}
	return found
}
