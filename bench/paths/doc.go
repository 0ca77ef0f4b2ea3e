// Package paths measures what a second path adds: client =paths= gateway =paths= backend, three
// places of a lab (package lab). mpgate is a process of its own in the middle; the client and the
// backend are in this process, so that both ends of a transfer read the same clock (Linux only;
// root).
//
// The steps of a measurement, and the files in that order:
//
//	scenario.go   the properties of the paths, and the events
//	site.go       the lab, the gateway, the backend; which paths the next run may use
//	gateway.go    mpgate's configuration and process
//	backend.go    the HTTP server at the far end
//	run.go        rounds: each variant once in each, on connections of its own
//	measure.go    one run: counters before, load, counters after; is the run valid?
//	transfer.go   the load: a large download, a large upload, requests
//	arrivals.go   goodput and gaps, from the times and sizes of the receiver's reads
package paths
