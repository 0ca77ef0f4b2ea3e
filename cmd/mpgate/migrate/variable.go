package migrate

import (
	"fmt"
	"strings"
)

// variables are those of nginx that have an equal here.
var variables = map[string]string{
	"host": "{host}", "http_host": "{host}", "remote_addr": "{client}", "binary_remote_addr": "{client}",
	"proxy_protocol_addr": "{client}", "realip_remote_addr": "{client}", "scheme": "{scheme}",
	"server_port": "{port}", "request_uri": "{uri}", "uri": "{path}", "document_uri": "{path}", "args": "{query}",
	"query_string": "{query}", "request_method": "{method}", "request_id": "{id}", "status": "{status}",
	"ssl_server_name": "{sni}", "ssl_preread_server_name": "{sni}", "upstream_addr": "{server}",
	"proxy_host": "{server_host}", "proxy_add_x_forwarded_for": "{client}",
}

// prefixed are those whose names end in the name of something else.
var prefixed = map[string]string{"http_": "header.", "cookie_": "cookie.", "arg_": "query."}

// template translates a value with variables. why says which part has no equivalent; it is "" if
// all of it has one.
func template(s string, sc *scope) (out, why string) { return expand(s, sc, 0) }

func expand(s string, sc *scope, depth int) (out, why string) {
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			i = len(s)
		}
		b.WriteString(strings.ReplaceAll(s[:i], "{", "{{"))
		if s = s[i:]; s == "" {
			break
		}
		name, rest := variableName(s)
		if name == "" {
			return "", fmt.Sprintf("%q is not a variable", s)
		}
		s = rest
		if name == "uri" || name == "document_uri" {
			for _, query := range []string{"$is_args$args", "$is_args$query_string", "?$args", "?$query_string"} {
				if after, ok := strings.CutPrefix(s, query); ok {
					name, s = "request_uri", after
				}
			}
		}
		value, why := equal(name, sc, depth)
		if why != "" {
			return "", why
		}
		b.WriteString(value)
	}
	return b.String(), ""
}

// equal returns what a variable is here.
func equal(name string, sc *scope, depth int) (value, why string) {
	if v, ok := variables[name]; ok {
		return v, ""
	}
	if len(name) == 1 && '1' <= name[0] && name[0] <= '9' {
		return "{" + name + "}", ""
	}
	if name == "server_name" {
		if v := sc.arg("server_name"); v != "" && !strings.ContainsAny(v, "~*_$") && !strings.HasPrefix(v, ".") {
			return v, ""
		}
		return "{host}", ""
	}
	if d := sc.variable(name); d != nil {
		if depth > 8 {
			return "", fmt.Sprintf("the variable $%s is set by way of itself", name)
		}
		return expand(d.Arg(1), sc, depth+1)
	}
	for prefix, kind := range prefixed {
		if field, ok := strings.CutPrefix(name, prefix); ok && field != "" {
			if kind == "header." {
				field = fieldName(field)
			}
			return "{" + kind + field + "}", ""
		}
	}
	return "", fmt.Sprintf("the variable $%s has no equivalent", name)
}

// fieldName turns http_x_name into X-Name.
func fieldName(s string) string {
	words := strings.Split(s, "_")
	for i, w := range words {
		if w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "-")
}

// variableName splits "$name…" or "${name}…".
func variableName(s string) (name, rest string) {
	if body, ok := strings.CutPrefix(s, "${"); ok {
		name, rest, ok = strings.Cut(body, "}")
		if !ok || !isName(name) {
			return "", ""
		}
		return name, rest
	}
	i := 1
	for i < len(s) && isNameByte(s[i]) {
		if i == 1 && '1' <= s[1] && s[1] <= '9' {
			i++
			break
		}
		i++
	}
	return s[1:i], s[i:]
}

func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 || !isNameByte(byte(r)) })
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// constant returns a value without variables: those that set gives one count as text.
func constant(s string, sc *scope) (string, bool) {
	v, why := template(s, sc)
	if why != "" {
		return "", false
	}
	plain := strings.ReplaceAll(v, "{{", "")
	return strings.ReplaceAll(v, "{{", "{"), !strings.Contains(plain, "{")
}
