package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"mpgate/admin"
)

type statusCmd struct {
	configFlag
	JSON bool `help:"Print the status as JSON."`
}

func (statusCmd) Help() string {
	return `Shows what the kernel granted, which is not always what was asked for: SPEAKS of a listener is that of its socket, SPEAKS of a server that of the last connection to it. fallback is MPTCP that was asked for and not given.

    mpgate status -c mpgate.toml
    mpgate status -c mpgate.toml --json`
}

func (c *statusCmd) Run(p *program) error {
	ctx, cancel := context.WithTimeout(context.Background(), remoteTime)
	defer cancel()
	client, s, err := c.ask(ctx)
	if err != nil {
		return err
	}
	client.Close()
	if c.JSON {
		return printJSON(p.stdout, s)
	}
	return printStatus(p.stdout, s)
}

func printStatus(w io.Writer, s *admin.Status) error {
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	fmt.Fprintf(w, "mpgate %s, pid %d, %s since %s, generation %d of %s\n",
		s.Version, s.PID, s.State, s.Started.Local().Format(time.RFC3339), s.Generation, s.Config)
	for _, r := range s.Reasons {
		fmt.Fprintln(w, "not ready:", r)
	}
	if s.Draining > 0 {
		fmt.Fprintln(w, "old generations with work left:", s.Draining)
	}
	if s.Reload.Error != "" {
		fmt.Fprintf(w, "the last reload, %s, was refused:\n  %s\n",
			s.Reload.At.Local().Format(time.RFC3339), strings.ReplaceAll(s.Reload.Error, "\n", "\n  "))
	}
	switch {
	case !s.MPTCP.Usable:
		fmt.Fprintf(w, "this host has no MPTCP: %s; %s\n", s.MPTCP.Why, s.MPTCP.Remedy)
	case !s.MPTCP.Enabled:
		fmt.Fprintln(w, "MPTCP is switched off: mptcp.enabled or GODEBUG=multipathtcp=0")
	}
	fmt.Fprintln(t, "\nLISTENER\tADDRESS\tSPEAKS\tASKED FOR\tNOTE")
	for _, l := range s.Listeners {
		for _, k := range l.Sockets {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", l.Name, k.Address, k.Speaks, l.MPTCP, listenerNote(&l, &k))
		}
	}
	fmt.Fprintln(t, "\nBACKEND\tSERVER\tUP\tSPEAKS\tASKED FOR\tNOTE")
	for _, b := range s.Backends {
		for _, k := range b.Servers {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", b.Name, k.Address, yesNo(k.Up), k.Speaks, b.MPTCP, joinNotes(k.Why, k.Reason))
		}
	}
	if len(s.Certificates) > 0 {
		fmt.Fprintln(t, "\nCERTIFICATE\tUNTIL\tISSUER\tNOTE")
	}
	for _, k := range s.Certificates {
		until := ""
		if !k.NotAfter.IsZero() {
			until = k.NotAfter.Local().Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", k.Name, until, k.Issuer, certificateNote(&k, time.Now()))
	}
	if len(s.Paths) > 0 {
		fmt.Fprintln(t, "\nPATH\tINTERFACE\tADDRESS\tROLE\tUP\tNOTE")
	}
	for _, k := range s.Paths {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", k.Name, k.Interface, k.Address, k.Role, yesNo(k.Up), k.Why)
	}
	return t.Flush()
}

// joinNotes joins those of the notes that are not empty.
func joinNotes(notes ...string) string {
	return strings.Join(slices.DeleteFunc(notes, func(s string) bool { return s == "" }), ", ")
}

func listenerNote(l *admin.Listener, s *admin.Socket) string {
	var notes []string
	if l.TLS {
		notes = append(notes, "TLS")
	}
	if s.Inherited {
		notes = append(notes, "inherited")
	}
	if s.Reserve {
		notes = append(notes, "in reserve")
	}
	if s.Why != "" {
		notes = append(notes, s.Why)
	}
	return strings.Join(notes, ", ")
}

func certificateNote(c *admin.Certificate, now time.Time) string {
	var notes []string
	if !c.NotAfter.IsZero() && now.After(c.NotAfter) {
		notes = append(notes, "expired")
	}
	if c.Error != "" {
		notes = append(notes, c.Error)
	}
	return strings.Join(notes, ", ")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
