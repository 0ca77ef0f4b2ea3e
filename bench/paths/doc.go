// Package paths measures what a second path gives: client =paths= gateway =paths= backend, three
// places of a lab (package lab), mpgate as a process of its own in the middle, and the client and
// the backend in this process, so that both ends of a transfer read the same clock (Linux only;
// root).
//
// The way of a measurement, and the files in that order:
//
//	scenario.go   what the paths are like and what happens to them
//	site.go       the lab, the gateway, the backend; which paths the next run may use
//	gateway.go    mpgate's configuration and process
//	backend.go    the HTTP server at the far end
//	run.go        rounds: each variant once in each, on connections of its own
//	measure.go    one run: counters before, work, counters after; was it what it says?
//	transfer.go   a large download, a large upload, requests: the work
//	arrivals.go   from what the receiver read, and when, to goodput and gaps
package paths
