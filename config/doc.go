// Package config reads mpgate's TOML file into validated values. Nothing changes them afterwards.
//
// The steps, in order:
//
//  1. read    the main file and the files that it includes (load.go)
//  2. locate  the line of every key, from the text (locate.go): BurntSushi/toml gives positions
//     for parse errors only
//  3. parse   with BurntSushi/toml into plain maps, then into nodes that know their place; ${VAR}
//     is expanded there (node.go, expand.go)
//  4. merge   the files into one tree; a key that is set twice is a fault that names both places
//     (node.go)
//  5. decode  the tree over the defaults into the exported types (decode.go)
//  6. check   each table: defaults that depend on other keys, and keys that do not fit together
//     (check*.go)
//  7. cross   what needs more than one table: references, ties, overlaps, what is never used
//     (cross*.go)
//
// No step stops at its first fault. All faults are collected, each in this form:
//
//	file:line: table.key: what is wrong (got "x"); what would be right
//
// Only the TOML files are opened. Other files, such as certificates, are checked by the code that
// uses them; [Config.Position] gives the place for its faults.
//
// # Declarations
//
// A key is declared once: by its field in config.go, config_tls.go or filters.go, or in the package
// that uses the table (proxy/limits). The decoder, [Config.Encode], [Schema] and the test of
// reference.toml all read the tags:
//
//	toml      name of the key, and options:
//	          one     a list, or a map of integers, that may be written as one value
//	          toggle  a table that may be written as true (with its defaults) or false (none)
//	          inline  printed as an inline table (both forms are read)
//	          secret  never printed, never quoted in a fault
//	default   the value if the key is left out; of a list, with commas (tables whose defaults are
//	          declared in Go are in defaults, key.go)
//	min, max  bounds
//	only      the values of an enumeration that this key takes
//	required  the key must be there; what to write, or empty for what its kind says
//	unless    the key that may be there in place of a required one
//	group     exactly one of the keys of the group must be there
//	short     the key of the table that a string in place of the table is for
//	as        what the value may be, where the type does not say: a name in formats (values.go)
//	names     what the names in a map may be: a name in formats
//	eg        an example for faults, if there is no default in a tag; "name = value" for a map
//	help      one line of help
//
// A field is a value, a list of values, a struct or a pointer to one (a table), a slice of structs
// (an array of tables), or a map (a table whose keys the operator chooses). forms.go describes the
// short forms.
//
// The codec of a type says which values are valid, and reads, prints and describes them (key.go,
// values*.go). The method Values of an enumeration lists its values; the package that uses the
// enumeration declares it. The node of a key says whether the key is in the file, and where.
//
// # Keys
//
// A key is named by its TOML path. An entry of an array is named by its name, or by its number if
// it has none: "limits.header_time", "listener.web.tls.certificates[0].cert",
// "backend.api.servers[2].weight".
//
// # Names
//
// Names of listeners, routes and backends consist of 1 to 63 of a-z, 0-9, _ and -, and begin with a
// letter or a digit. They are labels of metrics, parts of keys, and (for listeners) names of units.
package config
