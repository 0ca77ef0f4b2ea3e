// Package lab builds small networks out of network namespaces, for tests and
// for the benchmarks: places, and between two places any number of links, each
// with a rate, a delay, a loss and a queue of its own. Links can be cut,
// silenced, slowed and given a middlebox while traffic runs.
//
// The ready-made topology, [TwoPaths], looks like this ("A" and "B" are the two
// ends of a link as [LinkSpec] names them):
//
//	             front1 10.77.1.0/24              back1 10.77.3.0/24
//	          A .1             .2 B            A .1             .2 B
//	          ┌───── 100 Mbit/s ────┐          ┌───── 100 Mbit/s ────┐
//	┌─────────┴┐                   ┌┴──────────┴┐                   ┌┴─────────┐
//	│  client  │                   │  gateway   │                   │ backend  │
//	└─────────┬┘                   └┬──────────┬┘                   └┬─────────┘
//	          └───── 100 Mbit/s ────┘          └───── 100 Mbit/s ────┘
//	          A .1             .2 B            A .1             .2 B
//	             front2 10.77.2.0/24              back2 10.77.4.0/24
//
// # Links
//
// A link is run by one of two engines. The kernel's ([Kernel]):
//
//	place A            middle (a namespace of its own)           place B
//	front1 ─── veth ─── a ══ nft: loss, silence, box, fwd ══ b ─── veth ─── front1
//	                       tbf, netem on b (A to B), on a (B to A)
//
// and a user-space emulator ([Emulator]), for kernels without netem:
//
//	place A            the lab's child process                   place B
//	front1 ─── TUN ──▶ silence ▶ box ▶ loss ▶ queue at the rate ▶ delay ──▶ TUN ─── front1
//
// In both the sender's own interface is unlimited: what is too much is lost in
// the middle, as on a real path, and not held back in the sender's stack. The
// emulator keeps the order of packets also where the delay jitters, netem does
// not. Its delays are exact to some 0.2 ms; it handles packets in batches of at
// most 0.4 ms. At rates of 1 Gbit/s and more that makes bursts: take [Kernel].
//
// # Routes
//
// Each address leaves by its own link. Where the two addresses of a connection
// belong to different links, the A side decides: A routes by its source
// address, B by its destination, so both directions of any pair of addresses
// share one link. A is therefore the side that dials.
//
// # Life
//
// A lab has a child process (the same binary, executed again), which runs the
// emulator and cleans up. Namespaces are unnamed and held by file descriptors
// of both processes; the child ends when its control socket closes, however
// the parent ended (also by SIGKILL): it then kills what still runs inside the
// lab's namespaces, removes names made by [Lab.Name], and exits, and with the
// last descriptor the namespaces and all that is in them go. Nothing outside
// the lab's own namespaces is ever changed; any number of labs can be up.
package lab
