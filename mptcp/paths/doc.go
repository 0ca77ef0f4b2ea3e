// Package paths manages the declared paths of a host: it configures the MPTCP
// endpoints of the network namespace, ends the subflows of paths that failed, and
// counts the traffic of each path.
//
//	Open            sockets in the caller's network namespace, and whether we may
//	Manager.Run     one task, which owns all state:
//
//	   rtnetlink ──┐
//	   5 s         ├──► look: host (links, addresses), endpoints, limits
//	   Update    ──┘      │
//	                      ▼
//	                   resolve: which addresses a path has, is it up, and why not
//	                      │
//	                      ├──► fail over: a path that went down loses our subflows
//	                      ▼
//	                   plan and apply: endpoints and limits (sync), or only say (watch)
//
//	   25 ms ─────────► watch a sample of the connections that send: a path that is
//	                    silent while its siblings move goes down too (active)
//	                    probe silent paths; bring back those that answer;
//	                    keep short what they have queued (also with link)
//
//	Manager.Status    what was found, for users and for metrics
//	Manager.SelectSource  for dials: the address of a working path, while that of the route fails
//	Manager.HandOver  what was made, for another process to continue with (Options.Handover)
//	Options.Journal   the same in a file, for the process after one that was killed
//
// # What is never done
//
// Only sockets that [Source] yields are ended, never the last subflow of a
// connection. An endpoint that this manager did not make is changed only with
// Adopt. One that it made and another program changed is reported, and left
// alone until the configuration or the host changes. Deleting an endpoint ends
// every subflow that has its address, whosever it is: that is done only while
// none of our connections would lose its last, or one that carries.
//
// # The states of a path
//
//	       link or address gone               silence
//	  ┌──────────────────────── up ────────────────────────┐
//	  ▼                         ▲                          ▼
//	down ───► returning ────────┴──── returning ◄───────  silent
//	   link back    hold is over,           it answered
//	                routes have settled
//
// A path that is up is reported as unjoined while no connection gets a subflow on it.
package paths
