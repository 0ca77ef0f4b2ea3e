package demo

import (
	_ "embed"
	"html/template"
	"net/http"
	"slices"
	"strings"
	texttemplate "text/template"
	"time"

	"mpgate/mptcp"
)

// seen is a request as a server sees it.
type seen struct {
	Server    string  `json:"server"`
	Method    string  `json:"method"`
	Target    string  `json:"target"`
	Proto     string  `json:"proto"`
	Host      string  `json:"host"`
	ID        string  `json:"id,omitempty"`
	Headers   []field `json:"headers"`
	Transport string  `json:"transport"` // of the connection from the gateway
	Subflows  []sub   `json:"subflows,omitempty"`
}

type field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// sub is one subflow of the connection, seen from the server.
type sub struct {
	Local    string        `json:"local"`
	Remote   string        `json:"remote"`
	RTT      time.Duration `json:"rtt_ns"`
	Sent     uint64        `json:"bytes_sent"`
	Received uint64        `json:"bytes_received"`
}

func (s *Server) see(r *http.Request) *seen {
	v := &seen{
		Server: s.Name, Method: r.Method, Target: r.RequestURI, Proto: r.Proto, Host: r.Host, ID: r.Header.Get("X-Request-Id"),
		Transport: "unknown",
	}
	for name, values := range r.Header {
		v.Headers = append(v.Headers, field{name, strings.Join(values, ", ")})
	}
	slices.SortFunc(v.Headers, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
	rc := connOf(r)
	if rc == nil {
		return v
	}
	if t, err := mptcp.TransportOf(rc); err == nil && t != mptcp.Unknown {
		v.Transport = t.String()
	}
	var info mptcp.Info
	if err := info.Read(rc); err != nil {
		return v // TCP, or a kernel that does not report it
	}
	for i := range info.Subflows {
		f := &info.Subflows[i]
		if !f.Live() {
			continue
		}
		v.Subflows = append(v.Subflows, sub{f.Local.String(), f.Remote.String(), f.RTT, f.BytesSent, f.BytesReceived})
	}
	return v
}

//go:embed page.html
var pageSource string

var page = template.Must(template.New("page").Parse(pageSource))

var text = texttemplate.Must(texttemplate.New("text").Parse(`hello from {{.Server}}

gateway -> {{printf "%-7s" .Server}} {{.Transport}}{{range .Subflows}}
                   {{.Remote}} -> {{.Local}}, rtt {{.RTT}}{{end}}
you -> gateway     see client_transport in the access log{{with .ID}}, id {{.}}{{end}}

{{.Method}} {{.Target}} {{.Proto}}
Host: {{.Host}}
{{range .Headers}}{{.Name}}: {{.Value}}
{{end}}`))
