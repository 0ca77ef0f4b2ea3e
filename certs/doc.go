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
//	set.Start()                    // when the generation becomes active: ACME begins
//	old.Close()                    // when the old generation ends
//
// Open the new Set before closing the old one: what both have in common is
// shared, that is *tls.Config, ticket keys, policy identities, certificates and
// renewals in progress. A Set that was opened but is not needed, because the
// reload failed elsewhere, must be closed; it has changed nothing. Check is
// Open without a manager, for `mpgate check`; it writes nothing and starts
// nothing.
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
// where set is the current generation's. PolicyFor allocates nothing; Single
// reports in advance whether its result is always the same. After a reload, a
// connection whose policy no longer exists (!current.Has(policy)) should be
// ended like a drained one, by Connection: close or GOAWAY; a request that
// still comes on it gets 421.
//
// The http-01 challenges are answered before routing and before a redirect to
// https, on every listener without TLS that uses h1:
//
//	if certs.IsACMEChallenge(path) {
//		if body, ok := m.ChallengeResponse(ctx, host, string(path)); ok { 200 text/plain body }
//	}
//
// A challenge that is not ours is a request like any other, so that a route can
// lead to another ACME client. Manager.ACMEHandler is the same as an
// http.Handler. No listener is opened by this package or by certmagic.
//
// # Policies
//
// The name in the ClientHello chooses the policy: exact, then "*." (one label),
// then the listener's own; in any case, with or without a trailing dot. Each
// policy has versions, client authentication, its certificates and its own
// ticket keys, so that a session is resumed only under the policy under which
// it was created. Ticket keys rotate every 12 hours, and tickets of the
// previous keys remain valid until the next rotation. A policy that changed in
// any way (also the content of client_ca) is another one, with new keys.
// Resumed sessions are checked for the client certificate's dates, its CA, and
// its names like new ones. Without a usable client CA there is no policy.
//
// TLS 1.2 and 1.3, forward secrecy and AEAD only, X25519MLKEM768 before X25519
// and the NIST curves. Groups and TLS 1.3 suites follow crypto/tls, and the
// certificate's key decides between ECDSA and RSA.
//
// Within a policy the certificate is chosen by name: exact, "*.", then the
// first, or with RefuseUnknown none. Without a name, the address that the
// client came to is looked for in the certificates. If there is no certificate
// (the name is unknown, or an ACME certificate was not obtained yet), the
// handshake ends with the alert unrecognized_name (112, RFC 6066). Of the
// alerts that crypto/tls can be made to send here, it is the only one about the
// name; the others are internal_error and bad_certificate. Set.Done tells the
// two cases apart, Manager.Status has the ACME error.
//
// # Names in client certificates
//
// A pattern of ClientSAN and ClientOptions.SAN is "name" or "*.name" (one
// label) for a DNS name, "scheme://…" for a URI, exact, or with "/*" at its end
// for all below it, "user@name" for an e-mail address, or an address; or any
// behind "dns:", "uri:", "email:" or "ip:". The common name is never used.
//
// # Files
//
// The files of certificates and keys are checked every 5 s, which detects
// renamed files as well as the symbolic links that Kubernetes replaces. If a
// certificate and its key do not match, both are read once more, because two
// files are not replaced at the same moment, and then reported; the old pair
// stays in use. In Open, a pair that does not match is a Fault that names both
// files. client_ca and ca_root are read in Open. When one of them changes
// later, Hooks.Changed reports it, and the gateway opens its Sets again.
//
// # ACME
//
// certmagic keeps keys, certificates and locks in Dir/acme, or any
// certmagic.Storage, and makes each attempt; managers that share a storage
// obtain one certificate among them, and answer each other's challenges. When
// to attempt, and again after a failure (1 minute, doubled, up to 6 hours, with
// a spread), is decided here, see acme.go. A renewal is due when the CA says so
// (ARI), or in the last third of a certificate's life. The ACME protocol is
// spoken by acmez, certmagic's own client, through an Issuer of ours, see
// issuer.go. None of certmagic's package variables is changed.
//
// DNS-01 is solved by RFC 2136 updates, by a program, or by a webhook;
// execSolver and webhookSolver document how those are called.
//
// # Local certificates
//
// Local makes a CA in Dir/local: ca.key (0600) holds its key, ca.pem its
// certificate, which clients must trust, see Manager.LocalCA. It may sign for
// the names that it was made for and those below them (name constraints); a
// name beyond them makes a new CA, and a warning. The leaf lives in memory, and
// is renewed after 20 days.
//
// # To servers
//
// ClientConfig makes the *tls.Config for one server name, with sessions to
// resume, verification on, and files that are read again when they change.
package certs
