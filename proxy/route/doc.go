// Package route finds the route of a request by host, path and listener.
//
// The most specific rule wins, whatever the order in which rules were written: first by host
// (exact, then "*.x", which stands for one label, then none), within that by path (the longer one,
// an exact path before a prefix), within that by listener (named, then none). A rule that is less
// specific still matches where no more specific one does. Rules that differ in none of the three
// are a tie and refused.
//
// A Table is built once and never changes. What Match costs follows from the length of the host and
// the path, not from the number of rules: two look-ups by host, and for each of them a walk as
// described at paths. Host and path must be canonical (package target), as the rules are.
package route
