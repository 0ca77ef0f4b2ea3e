package config

import _ "embed"

// Reference is a configuration file with every key that there is, its default and what it does. A
// test holds it to what the decoder knows.
//
//go:embed reference.toml
var Reference string
