// Package config reads mpgate's TOML file into checked values that nobody changes afterwards.
//
// The way of a file, in the order of the source:
//
//  1. read      the main file and the files that it includes (source.go)
//  2. locate    the line of every key, from the text (locate.go): BurntSushi/toml gives positions for parse errors only
//  3. parse     by BurntSushi/toml into plain maps, then into nodes that know their place; ${VAR} is expanded there (node.go, expand.go)
//  4. merge     the files into one tree; a key that stands twice is a fault that names both places (node.go)
//  5. decode    the tree over the defaults (defaults.go) into the raw types that mirror the file (raw.go, decode.go)
//  6. resolve   the raw values into the exported types, one file a table (resolve_*.go)
//  7. cross     what needs more than one table: references, ties, overlaps, what is never used (cross.go)
//
// No step stops at its first fault: all are collected, each as
//
//	file:line: table.key: what is wrong (got "x"); what would be right
//
// Nothing but the TOML files is opened: whether a certificate can be read is found out by who uses it, and [Config.Position]
// gives that one the place to name.
//
// # Keys
//
// A key is named by its TOML path, with the name of an entry instead of its number where it has one:
// "limits.header_time", "listener.web.tls.certificates[0].cert", "backend.api.servers[2].weight".
//
// # Names
//
// Names of listeners, routes and backends are [a-z0-9_-], up to 63 of them, and begin with a letter or a digit. They are labels of
// metrics, parts of keys, and (for listeners) names of units.
package config
