package config

import _ "embed"

// Reference is a configuration file with all keys, their defaults and their descriptions. A test
// compares it with the declarations.
//
//go:embed reference.toml
var Reference string
