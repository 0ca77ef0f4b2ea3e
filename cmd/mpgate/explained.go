package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"mpgate/proxy/message"
)

func printExplained(w io.Writer, list []explained) error {
	for i, e := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s at listener %s\n", strings.TrimSpace(e.Method+" "+e.URL), e.Listener)
		t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
		if e.Host != "" {
			fmt.Fprintf(t, "  host\t%s\n", e.Host)
		}
		if e.Path != "" {
			fmt.Fprintf(t, "  path\t%s\n", e.Path)
		}
		if e.ClientAuth != "" {
			fmt.Fprintf(t, "  tls\tclient_auth = %q\n", e.ClientAuth)
		}
		switch {
		case e.Route == "":
			fmt.Fprintf(t, "  answer\t%s, from mpgate: %s\n", answerText(e.Status), e.Why)
		case len(e.Files) > 0:
			fmt.Fprintf(t, "  route\t%s, %s\n", e.Route, e.Why)
			fmt.Fprintf(t, "  files\t%s\n", strings.Join(e.Files, ", then "))
			if e.Backend != "" {
				fmt.Fprintf(t, "  otherwise\tbackend %s: %s\n", e.Backend, strings.Join(e.Servers, ", "))
			} else {
				fmt.Fprintf(t, "  otherwise\t%s, from mpgate\n", answerText(http.StatusNotFound))
			}
		case e.Backend == "" && e.Split == nil:
			fmt.Fprintf(t, "  route\t%s, %s\n", e.Route, e.Why)
			fmt.Fprintf(t, "  answer\t%s, from mpgate\n", answerText(e.Status))
			if e.Location != "" {
				fmt.Fprintf(t, "  location\t%s\n", e.Location)
			}
		default:
			fmt.Fprintf(t, "  route\t%s, %s\n", e.Route, e.Why)
			how := ""
			switch {
			case e.Passthrough:
				how = ", TLS passed through"
			case e.TCP:
				how = ", bytes passed through"
			}
			for _, s := range e.Split {
				fmt.Fprintf(t, "  split\t%s to %s\n", percent(s.Percent), s.Backend)
			}
			switch {
			case e.Backend == "":
				fmt.Fprintf(t, "  backend\tat random by these shares%s\n", how)
			case e.Split != nil:
				how += fmt.Sprintf(", by split_by = %q, here %q", e.SplitBy, e.SplitKey)
				fallthrough
			default:
				fmt.Fprintf(t, "  backend\t%s%s: %s\n", e.Backend, how, strings.Join(e.Servers, ", "))
			}
		}
		if len(e.Filters) > 0 {
			fmt.Fprintf(t, "  filters\t%s\n", strings.Join(e.Filters, ", "))
		}
		for _, note := range e.FilterNotes {
			fmt.Fprintf(t, "  filter\t%s\n", note)
		}
		for _, note := range e.Notes {
			fmt.Fprintf(t, "  note\t%s\n", note)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		printConsidered(w, &e)
	}
	return nil
}

func answerText(status int) string {
	if status == 0 {
		return "none"
	}
	return fmt.Sprintf("%d %s", status, message.StatusText(status))
}

func printConsidered(w io.Writer, e *explained) {
	if len(e.Considered) > 0 {
		fmt.Fprintln(w, "considered, in this order:")
	}
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	for _, c := range e.Considered {
		fmt.Fprintf(t, "  %s\thost %s\tpath %s\tlistener %s\t%s\n",
			c.Route, cmp.Or(c.Host, "any"), cmp.Or(c.Path, "any"), cmp.Or(c.Listener, "any"), c.Why)
	}
	_ = t.Flush()
	if e.OtherHosts > 0 {
		fmt.Fprintf(w, "routes for other hosts: %d\n", e.OtherHosts)
	}
}
