// Package route finds the route of a request by host, path, listener, method, header, query,
// cookies and the client's address.
//
// # Patterns
//
// Host and path of a request are canonical (package target), and patterns must be written so.
//
//	example.org      this host
//	*.example.org    one label more
//	cloud.*          one label or more behind "cloud."
//
//	/a               this path
//	/a/*             /a, and all below by segment: /a/b, not /ab
//	/*/a/*           a star is one segment that is not empty; at the end it is all that follows
//	/a/img-*.png     within a segment, a star is any text without a slash
//	/**/a            two stars are any number of segments, also none
//	*.js             the end of the last segment: /**/*.js
//
// A path_regex is an RE2 expression that is found anywhere in the path unless it says "^" or "$".
// The path is percent-encoded where it must be: an é is %C3%A9.
//
// # Precedence
//
// Of all rules that match a request the most specific one is chosen, whatever their order:
//
//  1. by host: a name; *.name, the longer first; name.*, the longer first; none
//  2. by path, segment by segment: text; text with stars, the one with more text before its first
//     star, then behind its last; one star; two stars; the star at the end. Then path_regex. Then
//     none
//  3. by listener: named, then none
//  4. among those that are equal so far, and among expressions: those with further conditions in the
//     order of the rules, then those without
//
// A rule that is less specific still matches where no more specific one does. Build refuses two
// rules that are equal in all, and a rule that another one always precedes.
//
// # Cost
//
// A Table is built once and never changes. Match allocates nothing, and what it costs follows from
// the host and the path, not from the number of rules: some look-ups by host, and for each of them
// those described at paths, globNode and regexps. Only rules that differ in nothing but their
// conditions, and expressions that begin alike, are tried one by one. No path makes it take more
// than the product of its segments and those of the patterns with stars.
package route
