// Package migrate translates the configuration of another proxy into mpgate's.
//
//  1. parse      package nginxconf reads the files
//  2. translate  http.go and stream.go walk through the blocks and build the tables of mpgate's file
//     (table.go). Each directive is translated, or named in a message with the reason
//     (message.go, directives.go)
//  3. settle     settle.go loads the result with package config, and removes what that refuses,
//     until it reports no error
//
// What restricts access fails closed: a location whose restriction cannot be translated answers
// 403. If not even that is possible, the message says so and [Result.Unprotected] is true.
package migrate
