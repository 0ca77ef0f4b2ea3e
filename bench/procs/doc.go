// Package procs starts the programs of a benchmark, measures their cost, and always ends them: each
// is the leader of a process group of its own, and a guard process kills the remaining groups when
// the benchmark itself is killed. It reads costs from the kernel (Linux only): the CPU clock of
// each process of a tree, which counts in nanoseconds and includes the threads that ended, its
// memory, and the counters of MPTCP.
package procs
