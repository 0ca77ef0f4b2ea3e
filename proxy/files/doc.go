// Package files finds files for requests, and evaluates the conditions and ranges of requests for
// them. It writes no responses: package proxy does.
//
//  1. name.go       the path of a request becomes the name of a file
//  2. root.go       the directory, through which no name leads out
//  3. find.go       the file: index, precompressed variants, fallback
//  4. validator.go  its entity tag and its date
//  5. condition.go  If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, If-Range
//  6. ranges.go     Range
//  7. mediatype.go  Content-Type
package files
