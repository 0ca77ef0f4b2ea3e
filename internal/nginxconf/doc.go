// Package nginxconf parses the configuration language of nginx: words, blocks and includes. It does
// not know what the directives mean.
//
//  1. lex.go      words, quotes, escapes, comments
//  2. parse.go    directives and blocks
//  3. include.go  the files that an include names
//
// Everything is bounded by the constants in limits.go.
package nginxconf
