package config

import (
	"time"

	"mpgate/proxy/filter"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// Filters are the filters of a route, in the order in which they act.
type Filters struct {
	Allow  []Network `toml:"allow,one" as:"clients" eg:"private" help:"Networks of the clients that are admitted, or private; none: all."`
	Deny   []Network `toml:"deny,one" as:"clients" eg:"192.0.2.0/24" help:"Networks of the clients that are refused, also if allow has them."`
	Limits []Limit   `toml:"limit,one,inline" help:"Limits on bodies, on the rate of requests and on requests at the same time."`
	// CORS is nil for routes of which no other origin may use the responses.
	CORS *CORS `toml:"cors,inline" help:"Which other origins may use the responses."`

	BasicAuth   *BasicAuth   `toml:"basic_auth,inline" help:"Users with passwords, from an htpasswd file."`
	JWT         *JWT         `toml:"jwt,inline" help:"JSON Web Tokens, as OpenID Connect and OAuth use them."`
	ForwardAuth *ForwardAuth `toml:"forward_auth,inline" help:"Another server that decides whether to admit a request."`

	AccelRedirect bool `toml:"accel_redirect" default:"false" help:"Whether an X-Accel-Redirect of the server leads to an internal route, which then answers."`
	// Rewrite is as filter.NewRewrite takes it, "" for none.
	Rewrite         string                         `toml:"rewrite" as:"rewrite" eg:"/v1/*" help:"Path that servers get; * is what the last * of match.path matched."`
	RequestHeaders  map[string][]template.Template `toml:"request_headers,one,merge" names:"request_field" eg:"X-Forwarded-Port = {port}" help:"Header fields to set in requests, to add with +Name, or to remove."`
	ResponseHeaders map[string][]template.Template `toml:"response_headers,one,merge" names:"response_field" eg:"X-Frame-Options = DENY" help:"Header fields to set in responses, to add with +Name, or to remove."`
	// Cookies is nil for routes whose cookies stay as they are.
	Cookies *Cookies `toml:"cookies,inline" help:"Attributes that cookies of responses get."`
	// Compress is nil for routes that compress nothing.
	Compress   *Compress                  `toml:"compress,inline,toggle" help:"Compresses responses with zstd or gzip: true, or a table."`
	ErrorPages map[StatusRange]*ErrorPage `toml:"error_pages" short:"file" eg:"502-504 = down.html" help:"Pages for error responses, by status: a file or a table."`
	// Mirror is nil if requests are not copied.
	Mirror *Mirror          `toml:"mirror,inline" help:"Another backend that gets copies of requests."`
	Logged telemetry.Logged `toml:"log" default:"true" help:"Whether requests are logged in the access log, or only errors."`
}

// CORS are the options of filter.CORS.
type CORS struct {
	Origins     []string      `toml:"origins,one" as:"origin" required:"name the origins, for example origins = [\"https://a.example\"]" eg:"https://a.example" help:"Admitted origins, with *. for one label before the name; or * for every origin."`
	Methods     []string      `toml:"methods,one" as:"method_or_any" default:"GET,HEAD,POST" help:"Methods that requests may use; * for all."`
	Headers     []string      `toml:"headers,one" as:"field" eg:"Authorization" help:"Header fields that requests may have; * for all."`
	Expose      []string      `toml:"expose,one" as:"field" eg:"X-Total" help:"Header fields of responses that scripts may read."`
	Credentials bool          `toml:"credentials" default:"false" help:"Whether requests may have cookies and other credentials."`
	MaxAge      time.Duration `toml:"max_age" default:"0s" min:"0s" help:"How long browsers may remember the answer to a preflight."`
}

// ErrorPage is the page for some statuses. It has File or Text.
type ErrorPage struct {
	File string `toml:"file" as:"file" eg:"down.html" help:"File of the page, at most 1 MiB."`
	Text string `toml:"text" eg:"Back soon." help:"The page itself, instead of file."`
	// Type is "" for that of the file.
	Type    string `toml:"type" as:"media_type" eg:"text/html; charset=utf-8" help:"Media type of the page; default: by the name of the file, or plain text."`
	Servers bool   `toml:"servers" default:"false" help:"Whether responses of servers with these statuses are replaced, too."`
}

// Redirect is the action that sends clients elsewhere.
type Redirect struct {
	To     filter.Location `toml:"to" required:"name the URL or path, for example to = \"https://{host}{uri}\"" eg:"https://{host}{uri}" help:"URL or path to redirect to."`
	Status int             `toml:"status" default:"308" only:"301,302,303,307,308" help:"Status of the redirect."`
}

// Answer is the action that gives each request the same answer. It has at most one of Text and
// File.
type Answer struct {
	Status int    `toml:"status" default:"200" min:"200" max:"599" help:"Status of the answer."`
	Text   string `toml:"text" eg:"ok" help:"Body of the answer."`
	File   string `toml:"file" as:"file" eg:"sorry.html" help:"File with the body, at most 1 MiB."`
	// Type is "" for that of the file.
	Type       string        `toml:"type" as:"media_type" eg:"application/json" help:"Media type of the body; default: by the name of the file, or plain text."`
	RetryAfter time.Duration `toml:"retry_after" min:"1s" eg:"30s" help:"Time after which clients may try again."`
}
