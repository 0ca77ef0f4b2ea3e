// Package gateway turns a configuration into a running gateway. It is the only package that
// connects the components, and with cmd the only one that imports config.
//
//	Open   build the first generation: backends, routes, sockets, admin address; all start errors occur here
//	Run    serve until the context ends, then drain
//	Reload build another generation and replace the running one; an error changes nothing
//
// A generation (generation.go) is what is built from one version of the configuration. The next
// generation keeps what is equal in both: sockets, and backends with their connections and the
// streams on them.
package gateway
