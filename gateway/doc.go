// Package gateway turns a configuration into a running gateway. It is the only place where the parts meet,
// and with cmd the only importer of config.
//
//	Open   build the first generation: backends, routes, sockets, admin address; whatever fails, fails here
//	Run    serve until the context ends, then drain
//	Reload build a further generation beside the running one and swap; a fault changes nothing
//
// A generation (generation.go) is what one reading of the configuration became. What is equal in the next one is
// carried over by identity: sockets, backends with their connections, and so every stream on them.
package gateway
