package config

// Mirror is where copies of requests go.
type Mirror struct {
	Backend string `toml:"backend" required:"name the [[backend]] that gets the copies, for example backend = \"shadow\"" eg:"shadow" help:"Name of the backend that gets the copies."`
	Percent int    `toml:"percent" default:"100" min:"1" max:"100" help:"Share of the requests that are copied, in percent."`
}
