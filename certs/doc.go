// Package certs implements mpgate's TLS: certificates that are obtained and renewed
// automatically, policies by name that fail closed, and TLS to servers. It is the
// only package that uses certmagic.
//
// # Use when a generation of the configuration is built
//
// There is one Manager for the life of the process, and one Set for each
// listener with TLS in each generation:
//
//	m := certs.NewManager(certs.ManagerOptions{Dir: stateDir, Log: log, Hooks: …})
//	go m.Run(ctx)                  // a named task: it owns all goroutines
//
//	set, err := m.Open(options)    // checks all; err is Faults, one for each key
//	set.Start()                    // when the generation is swapped in: ACME begins
//	old.Close()                    // when the old generation ends
//
// Open before Close: what both have in common is carried over by identity,
// *tls.Config, ticket keys, policy identities, certificates and the renewals
// under way. A Set that was opened and is not wanted (the reload failed
// elsewhere) is closed, and has changed nothing. Check is Open without a
// manager, for `mpgate check`; it writes nothing and starts nothing.
//
// Nothing here waits for a CA: a listener is ready when Open returned.
//
// # Use in the data plane
//
//	tc := tls.Server(conn, set.ServerConfig())
//	err := tc.HandshakeContext(ctx)
//	cs := tc.ConnectionState()
//	policy, result := set.Done(&cs, err)     // counts it; go on when result is certs.ResultOK
//	identity := certs.IdentityOf(&cs)        // nil without a client certificate
//
// result is ResultChallenge after a CA's tls-alpn-01: close the connection. The
// connection keeps policy. For every request on it,
//
//	if id := set.PolicyFor(host); id != policy { answer 421 }
//
// where set is the current generation's. It allocates nothing; Single tells
// beforehand that the answer is always the same. After a reload, a connection
// whose policy is gone (not current.Has(policy)) should be ended like a drained
// one, Connection: close or GOAWAY; a request that comes on it nevertheless
// gets 421.
//
// The http-01 challenges are answered before routing and before a redirect to
// https, on every listener without TLS that uses h1:
//
//	if certs.IsACMEChallenge(path) {
//		if body, ok := m.ChallengeResponse(ctx, host, string(path)); ok { 200 text/plain body }
//	}
//
// A challenge that is not ours is a request like any other, so that another
// ACME client may sit behind a route. Manager.ACMEHandler is the same as an
// http.Handler. No listener is opened by this package or by certmagic.
//
// # Policies
//
// The name in the ClientHello chooses the policy: exact, then "*." (one label),
// then the listener's own; in any case, with or without a trailing dot. Each
// policy has versions, client authentication, its certificates and its own
// ticket keys, so that a session is resumed only under the policy that it was
// made by. Ticket keys rotate every 12 hours and open one rotation longer. A
// policy that changed in any way (also the content of client_ca) is another
// one, with new keys. Resumed sessions are checked for the client
// certificate's dates, its CA, and its names like new ones. Without a usable
// client CA there is no policy.
//
// TLS 1.2 and 1.3, forward secrecy and AEAD only, X25519MLKEM768 before X25519
// and the NIST curves. Groups and TLS 1.3 suites follow crypto/tls, and the
// certificate's key decides between ECDSA and RSA.
//
// Within a policy the certificate is chosen by name: exact, "*.", then the
// first, or with RefuseUnknown none. Without a name, the address that the
// client came to is looked for in the certificates. Where there is none to
// show (a name that is not known, or an ACME certificate that could not be had
// yet) the handshake ends with the alert unrecognized_name (112, RFC 6066): it
// is the one of those crypto/tls can be made to send that says "not for this
// name"; the others are internal_error and bad_certificate. Set.Done tells the
// two cases apart, Manager.Status has the ACME error.
//
// # Names in client certificates
//
// A pattern of ClientSAN and ClientOptions.SAN is "name" or "*.name" (one
// label) for a DNS name, "scheme://…" for a URI, exact, or with "/*" at its end
// for all below it, "user@name" for an e-mail address, or an address; or any
// behind "dns:", "uri:", "email:" or "ip:". The common name is never looked at.
//
// # Files
//
// Pairs are polled (5 s), which sees renames into place and Kubernetes' swaps
// of symbolic links alike. A pair that does not fit is looked at once more,
// since two files are not replaced at once, and then reported; the old pair
// stays. A pair that does not fit in Open is a Fault that names both files.
// client_ca and ca_root are read in Open: a reload of the configuration takes
// the new ones.
//
// # ACME
//
// certmagic keeps keys, certificates and locks in Dir/acme, or any
// certmagic.Storage, and makes each attempt; managers that share a storage
// obtain one certificate among them, and answer each other's challenges. When
// to attempt, and again after a failure (1 minute, doubled, up to 6 hours, with
// a spread), is decided here, see acme.go. A renewal is due when the CA says so
// (ARI), or in the last third of a certificate's life. The conversation with
// the CA is acmez's, certmagic's own client, by an Issuer of ours, see issuer.go.
// None of certmagic's package variables is written.
//
// DNS-01 is solved by RFC 2136 updates, by a program, or by a webhook; execSolver
// and webhookSolver hold the contracts.
//
// # Local certificates
//
// Local makes a CA in Dir/local: ca.key (0600) holds its key, ca.pem what to
// trust, see Manager.LocalCA. It may sign for the names that it was made for
// and those below them (name constraints); a name beyond them makes a new CA,
// and a warning. The leaf lives in memory, and is renewed after 20 days.
//
// # To servers
//
// ClientConfig makes the *tls.Config for one server name, with sessions to
// resume, verification on, and files that are read again when they change.
package certs
