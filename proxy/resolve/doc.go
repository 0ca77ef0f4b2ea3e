// Package resolve is a DNS stub resolver that says how long its answers are valid, which package
// net does not. It reads /etc/hosts and /etc/resolv.conf as other programs do, and remembers
// nothing but these files: what to do about a failure is up to the caller.
//
//	Resolver.Addresses  search list, both families at the same time   search.go
//	Resolver.Services   SRV records                                   search.go
//	ask                 one question to the servers, in turn          exchange.go
//	query, answer       the wire format, and the checks of an answer  message.go
//	system              /etc/resolv.conf, /etc/hosts                  system.go
//
// An answer counts if it comes from the address and port that were asked (the socket is connected,
// with a random local port), and repeats the random id and the question (RFC 5452); an error may be
// without the question. Anything else is ignored, so that the right answer may still arrive. Only
// records of the name itself, and of the names that its CNAME records lead to, are used.
//
// The question is not written in random case (draft-vixie-dnsext-dns0x20), which would have to be
// repeated, too. A stub resolver asks servers that are mostly on its own host or network, where the
// port and the id leave someone who cannot see the question about one chance in 2^31 for each
// packet. Some servers and middleboxes answer in lower case: a lookup by them would fail, or need
// TCP each time, which not all of them have.
package resolve
