// Command bench measures what mpgate costs, beside its peers and on the reader's own machine.
//
//	go run ./bench cpu        CPU time of the proxy process a request: mpgate, nginx, HAProxy, Caddy, net/http
//	go run ./bench load       requests a second at saturation, and latency at a fixed rate
//	go run ./bench growth     what mpgate costs as connections, routes, servers, listeners become many
//	go run ./bench paths      what a second path gives, in a lab of network namespaces (root)
//	go run ./bench abuse      what attacks cost a proxy, and cost clients that do nothing wrong
//	go run ./bench report     shows again what --json wrote
//	go run ./bench selftest   proves that a slower proxy shows up as one
//
// The way of a run, and the files in that order:
//
//	main.go       flags and verbs
//	stage.go      what comes first: build mpgate, enter a network namespace of its own (root), start the guard
//	machine.go    what machine this is
//	cases.go      which workloads
//	proxy.go      start one proxy, wait until it is ready
//	rounds.go     start all proxies of a case, warm each, then round by round one after the other
//	measure.go    one round: clocks before, load, clocks after; is it valid?
//	idle.go       memory of idle connections; startup.go: time to the first answer; growth.go: sizes as proxies of one case
//	report/       the table, the page
//
// abuse.go measures with processes of its own: an attacker (abuse/) and bystanders, beside one
// proxy at a time.
//
// paths.go is another way through: it has a lab instead of the loopback, and its own packages
// (paths/).
//
// The programs that it starts from its own binary (the backend, net/http's proxy, the load
// generator) are in child.go.
package main
