// Command bench measures the cost of mpgate, in comparison with other proxies, on the machine that
// it runs on.
//
//	go run ./bench cpu            CPU time of the proxy process per request: mpgate, nginx, HAProxy, Caddy, net/http
//	go run ./bench cpu --filters  cost of filters, compression and static files: variants of mpgate, and nginx
//	go run ./bench cpu --balance  cost of choosing among 10 and 1,000 servers
//	go run ./bench load           requests per second at saturation, and latency at a fixed rate
//	go run ./bench growth         cost of mpgate with many connections, routes, servers and listeners
//	go run ./bench paths          what a second path adds, in a lab of network namespaces (root)
//	go run ./bench abuse          what attacks cost a proxy and its other clients
//	go run ./bench report         shows a result that was written with --json
//	go run ./bench selftest       proves that a slower proxy is measured as slower
//
// The steps of a run, and the files in that order:
//
//	main.go       flags and commands
//	stage.go      preparation: build mpgate, enter a network namespace (root), start the guard
//	machine.go    description of the machine
//	cases.go      the workloads
//	proxy.go      start one proxy, wait until it is ready
//	rounds.go     start all proxies of a case, warm each up, then measure one after the other in each round
//	measure.go    one round: clocks before, load, clocks after; is the round valid?
//	filters.go    variants of one proxy as the proxies of a case (peers/variant.go), with secrets.go
//	idle.go       memory of idle connections; startup.go: time to the first response; growth.go: sizes as proxies of one case
//	report/       the table, the page
//
// abuse.go measures one proxy at a time with processes of its own: an attacker (abuse/) and clients
// that do nothing wrong.
//
// paths.go uses a lab instead of the loopback device, and packages of its own (paths/).
//
// child.go has the programs that bench starts from its own binary: the backend, net/http's proxy
// and the load generator.
package main
