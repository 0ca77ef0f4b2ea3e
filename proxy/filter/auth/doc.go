// Package auth has the filters that decide who may pass: Basic, JWT and Forward. They fail closed:
// a request is refused if no decision about it was possible.
//
//	Basic    name and password     Users    an htpasswd file, read again when it changes
//	JWT      a signed token        Keys     of a file, or fetched from a URL and kept up to date
//	Forward  another server        backend.Ask
//
// Users and Keys outlive the filters of one generation, and are shared by routes; Run keeps them up
// to date. Memory remembers valid credentials by a keyed hash, so that most requests cost neither a
// slow hash nor a signature. Queue bounds the slow hashes.
package auth
