package migrate

import (
	"strings"

	"mpgate/internal/nginxconf"
)

// translated are the directives that the other files deal with.
var translated = split(`
	http server location upstream listen server_name set_real_ip_from real_ip_header ssl ssl_certificate
	ssl_certificate_key ssl_protocols ssl_client_certificate ssl_verify_client ssl_reject_handshake return rewrite if set
	internal proxy_cookie_flags limit_except proxy_pass grpc_pass root alias index try_files autoindex default_type gzip_static brotli_static
	zstd_static fastcgi_pass uwsgi_pass scgi_pass memcached_pass content_by_lua_block content_by_lua_file content_by_lua
	perl js_content stub_status flv mp4 dav_methods allow deny satisfy client_max_body_size limit_req limit_req_zone
	limit_conn limit_conn_zone limit_req_dry_run auth_basic auth_basic_user_file auth_request auth_request_set auth_jwt
	gzip gzip_types gzip_min_length brotli brotli_types brotli_min_length zstd zstd_types zstd_min_length error_page
	proxy_intercept_errors proxy_set_header grpc_set_header proxy_hide_header grpc_hide_header add_header expires
	more_set_headers more_clear_headers proxy_connect_timeout proxy_read_timeout grpc_connect_timeout grpc_read_timeout
	proxy_bind grpc_bind proxy_ssl proxy_ssl_verify proxy_ssl_trusted_certificate proxy_ssl_name proxy_ssl_certificate
	proxy_ssl_certificate_key grpc_ssl_verify grpc_ssl_trusted_certificate grpc_ssl_name grpc_ssl_certificate
	grpc_ssl_certificate_key keepalive_timeout client_header_timeout large_client_header_buffers ssl_preread
	proxy_timeout proxy_protocol map geo split_clients stream proxy_next_upstream proxy_next_upstream_tries http2
	geoip2 include events break`)

// unneeded are directives without which mpgate does the same, or better, with the reason. Nothing
// is lost, but operators who look for them find them.
var unneeded = reasons(map[string]string{
	"worker_processes worker_connections worker_rlimit_nofile worker_cpu_affinity use multi_accept accept_mutex worker_shutdown_timeout thread_pool aio sendfile sendfile_max_chunk tcp_nopush tcp_nodelay directio output_buffers open_file_cache open_file_cache_valid open_file_cache_min_uses open_file_cache_errors types_hash_max_size types_hash_bucket_size server_names_hash_bucket_size server_names_hash_max_size variables_hash_max_size variables_hash_bucket_size map_hash_bucket_size map_hash_max_size proxy_headers_hash_max_size proxy_headers_hash_bucket_size client_body_buffer_size client_header_buffer_size client_body_temp_path client_body_in_file_only client_body_in_single_buffer proxy_temp_path proxy_max_temp_file_size proxy_temp_file_write_size postpone_output reset_timedout_connection lingering_close lingering_time lingering_timeout pcre_jit timer_resolution preread_buffer_size preread_timeout": "not needed: mpgate has no such setting",
	"user pid daemon master_process working_directory": "not needed: the service manager does it; mpgate units writes the units",
	"load_module": "not needed: mpgate has no modules",
	"types charset charset_types override_charset types_hash": "not needed: mpgate knows the types of files",
	"proxy_http_version proxy_socket_keepalive":               "not needed: mpgate speaks HTTP/1.1 to servers; protocol of a backend chooses another",
	"proxy_buffering proxy_buffer_size proxy_buffers proxy_busy_buffers_size proxy_request_buffering proxy_send_lowat grpc_buffer_size proxy_ignore_client_abort": "not needed: mpgate does not wait for whole messages, in either direction",
	"proxy_redirect proxy_cookie_path":                                   "not needed where a rewrite changes the path: mpgate translates Location and cookie paths back; for other changes use response_headers",
	"proxy_ssl_server_name proxy_ssl_session_reuse grpc_ssl_server_name": "not needed: mpgate sends the server's name by itself",
	"ssl_ciphers ssl_prefer_server_ciphers ssl_ecdh_curve ssl_conf_command ssl_dhparam ssl_session_cache ssl_session_timeout ssl_session_tickets ssl_session_ticket_key ssl_buffer_size ssl_early_data ssl_verify_depth":                                                                     "not needed: mpgate's TLS has safe ciphers, curves and session tickets",
	"http2_max_concurrent_streams http2_max_field_size http2_max_header_size http2_chunk_size http2_push_preload http2_push http2_recv_buffer_size http2_idle_timeout http2_max_requests":                                                                                                    "not needed: see [limits]",
	"keepalive_requests keepalive_disable keepalive_min_timeout chunked_transfer_encoding etag if_modified_since msie_padding absolute_redirect port_in_redirect merge_slashes recursive_error_pages log_not_found log_subrequest ignore_invalid_headers max_ranges server_name_in_redirect": "not needed",
	"server_tokens":             "not needed: mpgate sends no Server field",
	"resolver resolver_timeout": "not needed: mpgate asks the servers in /etc/resolv.conf again when a TTL ends; resolve = { servers = … } of a backend names others",
	"gzip_vary gzip_proxied gzip_disable gzip_buffers gzip_http_version gzip_window gzip_comp_level brotli_comp_level zstd_comp_level": "not needed: compress = true does it; compress.level sets the level",
	"real_ip_recursive":                                                     "not needed: mpgate takes the last address that is not of a trusted proxy",
	"limit_req_status limit_conn_status":                                    "left out: the status is 429, or 503 beyond limit.requests",
	"limit_req_log_level limit_conn_log_level limit_rate_after":             "not needed",
	"client_body_timeout send_timeout proxy_send_timeout grpc_send_timeout": "left out: [limits] idle_time and min_rate bound slow clients; idle_timeout of a backend slow servers",
	"proxy_next_upstream_timeout":                                           "left out: connect_timeout and response_timeout bound each try",
	"underscores_in_headers":                                                `left out: write unsafe_header_names = "keep" in the routes that need it`,
})

// missing are directives whose work mpgate does not do, or does in another way.
var missing = reasons(map[string]string{
	"ssl_stapling ssl_stapling_verify ssl_stapling_file ssl_stapling_responder ssl_trusted_certificate ssl_ocsp": "left out: mpgate does no OCSP; CAs have ended it",
	"ssl_crl":           "left out: mpgate reads no revocation lists; issue client certificates for a short time",
	"ssl_password_file": "left out: store keys without a password, readable by mpgate only",
	"access_log log_format open_log_file_cache": `left out: the access log is [log] access = "stdout" | "stderr" | FILE, one for all, in JSON; log = false turns it off for a route`,
	"error_log":  "left out: mpgate's own log goes to stderr; [log] level",
	"auth_delay": "left out: mpgate answers unknown users in constant time; limit = { rate = … } slows guessing",
	"proxy_cache proxy_cache_path proxy_cache_valid proxy_cache_key proxy_cache_use_stale proxy_cache_bypass proxy_no_cache proxy_cache_lock proxy_cache_lock_timeout proxy_cache_lock_age proxy_cache_revalidate proxy_cache_methods proxy_cache_min_uses proxy_cache_background_update proxy_cache_convert_head proxy_cache_purge proxy_ignore_headers proxy_store proxy_store_access fastcgi_cache fastcgi_cache_path fastcgi_cache_key slice": "left out: mpgate has no cache; put one between it and the server",
	"fastcgi_param fastcgi_index fastcgi_split_path_info fastcgi_buffers fastcgi_buffer_size fastcgi_read_timeout fastcgi_send_timeout fastcgi_connect_timeout fastcgi_hide_header fastcgi_intercept_errors fastcgi_busy_buffers_size fastcgi_request_buffering fastcgi_temp_path fastcgi_buffering fastcgi_pass_header fastcgi_keep_conn uwsgi_param uwsgi_read_timeout uwsgi_temp_path scgi_param scgi_temp_path uwsgi_modifier1":               "left out: mpgate speaks HTTP to servers, not FastCGI, uwsgi or SCGI",
	"proxy_pass_header proxy_pass_request_headers proxy_pass_request_body proxy_method proxy_set_body proxy_force_ranges": "left out: mpgate forwards requests as they are; request_headers changes fields",
	"proxy_cookie_domain": "left out: mpgate does not change the domain of cookies; set it in the application",
	"proxy_ssl_protocols proxy_ssl_ciphers proxy_ssl_verify_depth proxy_ssl_crl":                                                                          "left out: mpgate speaks TLS 1.2 and 1.3 to servers with safe ciphers",
	"sub_filter sub_filter_once sub_filter_types sub_filter_last_modified addition_types add_before_body add_after_body ssi xslt_stylesheet image_filter": "left out: mpgate does not change bodies",
	"add_trailer":         "left out: mpgate adds no trailers",
	"limit_rate":          "left out: mpgate does not slow responses down",
	"mirror":              "left out: write mirror = { backend = NAME, percent = 100 }",
	"mirror_request_body": "left out: mirror sends bodies up to 64 KiB",
	"proxy_limit_rate proxy_download_rate proxy_upload_rate": "left out: mpgate does not slow transfers down",
	"http3 http3_hq quic_retry quic_gso ssl_quic":            "left out: mpgate does not speak HTTP/3",
	"env": "left out: mpgate has its environment from the service; ${NAME} in the file is a variable of it",
	"geoip_country geoip_city geoip2 geoip_proxy":                                               "left out: mpgate does not know where addresses are",
	"js_import js_set lua_package_path lua_shared_dict perl_modules perl_set init_by_lua_block": "left out: mpgate runs no scripts",
	"auth_jwt_key_file auth_jwt_key_request auth_jwt_require":                                   `left out: write jwt = { jwks = "https://…" }`,
	"health_check": `left out: write check = { path = "/" } in the backend`,
	"random_index": "left out",
	"secure_link secure_link_md5 secure_link_secret": "left out: mpgate checks no signed links",
	"aio_write":                      "left out",
	"proxy_responses proxy_requests": "left out: they are for UDP, which mpgate does not forward",
})

func split(s string) map[string]bool {
	out := map[string]bool{}
	for _, name := range strings.Fields(s) {
		out[name] = true
	}
	return out
}

// reasons gives each name of a list its reason.
func reasons(lists map[string]string) map[string]string {
	out := map[string]string{}
	for names, why := range lists {
		for _, name := range strings.Fields(names) {
			out[name] = why
		}
	}
	return out
}

// rest names the directives that are not translated.
func (t *translator) rest(list []*nginxconf.Directive) {
	for _, d := range list {
		why, ok := unneeded[d.Name]
		if !ok {
			why, ok = missing[d.Name]
		}
		switch {
		case d.Name == "access_log" && d.Arg(0) == "off":
		case d.Name == "secure_link" || d.Name == "secure_link_md5":
			t.alarm(d, "%s", why)
		case d.Name == "access_by_lua_block" || d.Name == "access_by_lua_file" || strings.HasPrefix(d.Name, "modsecurity") && d.Arg(0) != "off":
			t.alarm(d, "left out: mpgate runs no scripts and no application firewall")
		case translated[d.Name]:
		case ok:
			t.say(d, "%s", why)
		default:
			t.say(d, "left out: not known to mpgate import")
		}
		switch d.Name {
		case "types", "map", "geo", "split_clients", "upstream", "geoip2", "match":
		default:
			t.rest(d.Block)
		}
	}
}
