package config

import (
	"mpgate/proxy/filter/limit"
	"mpgate/proxy/template"
)

// Limit is one of the limits of a route. A value of 0 is no limit.
type Limit struct {
	Body int64 `toml:"body" as:"size" min:"0" max:"1024GiB" eg:"20MiB" help:"Maximum length of a request's body."`
	Rate Rate  `toml:"rate" eg:"30/s" help:"Requests in a second, minute or hour, for each key."`
	// Burst is 0 for the number of Rate.
	Burst    int               `toml:"burst" min:"0" max:"1000000000" eg:"50" help:"Requests of a key at once; 0: the number of rate."`
	Key      template.Template `toml:"key" default:"{client}" help:"What rate and per_key count by; an IPv6 client counts by its /64."`
	PerKey   int               `toml:"per_key" min:"0" max:"1000000000" eg:"10" help:"Requests of a key at the same time."`
	Requests int               `toml:"requests" min:"0" max:"1000000000" eg:"100" help:"Requests of the route at the same time."`
	DryRun   bool              `toml:"dry_run" default:"false" help:"Whether requests beyond the limits are served, counted and logged."`
}

// Options are the options for package limit.
func (l *Limit) Options() limit.Options {
	return limit.Options{
		Body: l.Body, Rate: limit.Rate{Events: l.Rate.Events, Per: l.Rate.Per}, Burst: l.Burst, Key: l.Key,
		PerKey: l.PerKey, Requests: l.Requests, DryRun: l.DryRun,
	}
}

func (c routeCheck) limit(o *Limit, n *node) {
	if n.unset("body", "rate", "burst", "key", "per_key", "requests") {
		return
	}
	written := func(key string) bool { // and not as none
		child := n.keys[key]
		return child != nil && child.leaf != "" && child.leaf != "0" && child.leaf != int64(0)
	}
	counts := written("rate") || written("per_key")
	switch {
	case !counts && !written("body") && !written("requests"):
		c.fault(n.at, "limits nothing; write body, rate, per_key or requests, for example limit = { rate = \"30/s\" }")
	case written("burst") && !written("rate"):
		c.fault(n.get("burst").at, "is for rate; write for example rate = \"30/s\", or leave it out")
	case o.Key.String() != "{client}" && !counts:
		c.fault(n.get("key").at, "is for rate and per_key; write one of them, or leave it out")
	}
	if !written("key") || len(o.Key.Parts()) == 0 {
		return
	}
	key := n.get("key")
	c.variables(key, &o.Key, beforeServer...)
	switch _, fixed := o.Key.Literal(); {
	case fixed:
		c.fault(key.at, "has no variable, so that all requests have the same key%s; must be for example \"{client}\"", key.got())
	case o.Key.Uses(template.ID):
		c.fault(key.at, "uses {id}, which is different for each request%s; must be for example \"{client}\"", key.got())
	}
}
