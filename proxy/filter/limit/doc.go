// Package limit is the filter that limits what a route accepts: how large bodies are, and how many
// requests come in a time and at the same time.
//
//   - limit.go: the filter
//   - body.go: counts the bytes of a body whose length is not known beforehand
//   - rate.go: requests in a time
//   - concurrency.go: requests at the same time
//   - table.go, memory.go: a number for each key, in bounded memory
package limit
