package config

import "mpgate/proxy/filter"

// Cookies are the attributes that the cookies of a route get.
type Cookies struct {
	Secure   bool     `toml:"secure" default:"false" help:"Whether browsers send cookies only over TLS."`
	HTTPOnly bool     `toml:"http_only" default:"false" help:"Whether scripts cannot read cookies."`
	SameSite SameSite `toml:"same_site" eg:"lax" help:"Whether browsers send cookies with requests from other sites, instead of what the server says."`
}

// SameSite is the value of the attribute of that name; "" leaves it as it is.
type SameSite string

const (
	SameSiteLax    SameSite = "lax"
	SameSiteStrict SameSite = "strict"
	SameSiteNone   SameSite = "none"
)

// Values are the texts of all values.
func (SameSite) Values() []string { return texts(SameSiteLax, SameSiteStrict, SameSiteNone) }

// Options are the options for package filter.
func (c *Cookies) Options() filter.CookiesOptions {
	o := filter.CookiesOptions{Secure: c.Secure, HTTPOnly: c.HTTPOnly}
	switch c.SameSite {
	case SameSiteLax:
		o.SameSite = "Lax"
	case SameSiteStrict:
		o.SameSite = "Strict"
	case SameSiteNone:
		o.SameSite = "None"
	}
	return o
}

func (c routeCheck) cookies(o *Cookies, n *node) {
	switch {
	case n.unset("secure", "http_only", "same_site"):
	case *o == Cookies{}:
		c.fault(n.at, "sets nothing; must be for example { secure = true, http_only = true, same_site = \"lax\" }")
	case o.SameSite == SameSiteNone && !o.Secure:
		c.fault(n.get("same_site").at, "is \"none\", which browsers accept only with Secure; add secure = true")
	}
}
