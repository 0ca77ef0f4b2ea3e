package main

import (
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
	return `Shows what the kernel reports, which can differ from the configuration. TRANSPORT is that of the listener's socket, or of the last connection to the server; fallback means that MPTCP was requested and the connection uses TCP. MPTCP is the configured mode.

    mpgate status -c mpgate.toml
    mpgate status -c mpgate.toml --json`
}

func (c *statusCmd) Run(p *program) error {
	s, err := c.status()
	if err != nil {
		return err
	}
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
		fmt.Fprintln(w, "draining generations:", s.Draining)
	}
	if s.Reload.Error != "" {
		fmt.Fprintf(w, "the last reload, at %s, failed:\n  %s\n",
			s.Reload.At.Local().Format(time.RFC3339), strings.ReplaceAll(s.Reload.Error, "\n", "\n  "))
	}
	switch {
	case !s.MPTCP.Usable:
		fmt.Fprintf(w, "this host does not support MPTCP: %s; remedy: %s\n", s.MPTCP.Why, s.MPTCP.Remedy)
	case !s.MPTCP.Enabled:
		fmt.Fprintln(w, "MPTCP is off: mptcp.enabled = false or GODEBUG=multipathtcp=0")
	}
	fmt.Fprintln(t, "\nLISTENER\tADDRESS\tTRANSPORT\tMPTCP\tNOTE")
	for _, l := range s.Listeners {
		for _, k := range l.Sockets {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", l.Name, k.Address, k.Transport, l.MPTCP, listenerNote(&l, &k))
		}
	}
	fmt.Fprintln(t, "\nBACKEND\tSERVER\tSTATE\tTRANSPORT\tMPTCP\tNOTE")
	for _, b := range s.Backends {
		for _, k := range b.Servers {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", b.Name, k.Address, k.State(), k.Transport, b.MPTCP, joinNotes(k.Note(), k.Reason))
		}
	}
	printNames(t, s.Backends)
	if len(s.Certificates) > 0 {
		fmt.Fprintln(t, "\nCERTIFICATE\tEXPIRES\tISSUER\tNOTE")
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

// printNames prints the names of servers, with what they stand for at present.
func printNames(w io.Writer, backends []admin.Backend) {
	title := "\nBACKEND\tNAME\tFOUND\tNEXT LOOKUP\tNOTE\n"
	for _, b := range backends {
		for _, n := range b.Names {
			next, note := "when used", ""
			if n.Next > 0 {
				next = (time.Duration(n.Next) * time.Second).String()
			}
			if n.Error != "" {
				note = fmt.Sprintf("does not resolve (%s): %s", admin.Count(int64(n.Failures), "failed lookup"), n.Error)
				if len(n.Found) > 0 {
					note += fmt.Sprintf("; last answer %v ago", time.Duration(n.Age)*time.Second)
				}
			}
			fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%s\n", title, b.Name, n.Name, someOf(n.Found), next, note)
			title = ""
		}
	}
}

// mostFound is how many addresses of a name are printed.
const mostFound = 8

// someOf joins the first addresses of a name, and says how many more there are.
func someOf(found []string) string {
	if n := len(found) - mostFound; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(found[:mostFound], ", "), n)
	}
	return strings.Join(found, ", ")
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
