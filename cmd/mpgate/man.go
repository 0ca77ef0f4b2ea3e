package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type manCmd struct{}

func (manCmd) Run(p *program, k *kong.Kong) error {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH MPGATE 1 \"\" \"mpgate %s\" \"User Commands\"\n", manText(version()))
	fmt.Fprintf(&b, ".SH NAME\nmpgate \\- HTTP gateway for hosts with more than one path to the network\n")
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B mpgate\n.I command\n[\\fIflags\\fR]\n")
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", manText(description))
	b.WriteString(".SH COMMANDS\n")
	for _, v := range visible(k.Model.Node) {
		manVerb(&b, v)
	}
	b.WriteString(manRest)
	_, err := io.WriteString(p.stdout, b.String())
	return err
}

func manVerb(b *strings.Builder, v *kong.Node) {
	fmt.Fprintf(b, ".SS \"mpgate %s", v.Name)
	for _, a := range v.Positional {
		fmt.Fprintf(b, " %s", strings.ToUpper(a.Name))
	}
	fmt.Fprintf(b, "\"\n%s\n", manText(v.Help))
	manDetail(b, v.Detail)
	for _, a := range v.Positional {
		fmt.Fprintf(b, ".TP\n.I %s\n%s\n", strings.ToUpper(a.Name), manText(a.Help))
	}
	for _, f := range v.Flags {
		if !f.Hidden {
			fmt.Fprintf(b, ".TP\n.B %s\n%s\n", manText(f.String()), manText(f.Help))
		}
	}
}

// manDetail writes paragraphs; indented lines are examples and stay unchanged.
func manDetail(b *strings.Builder, text string) {
	if text == "" {
		return
	}
	for _, paragraph := range strings.Split(text, "\n\n") {
		if strings.HasPrefix(paragraph, "    ") {
			lines := strings.ReplaceAll("\n"+paragraph, "\n    ", "\n")[1:]
			fmt.Fprintf(b, ".PP\n.RS\n.nf\n%s\n.fi\n.RE\n", manText(lines))
			continue
		}
		fmt.Fprintf(b, ".PP\n%s\n", manText(paragraph))
	}
}

// manText escapes text for groff.
func manText(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "~", `\(ti`, "^", `\(ha`, "`", `\(ga`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

const manRest = `.SH SIGNALS
.TP
.B SIGHUP
loads the configuration again and reopens log files.
.TP
.B SIGUSR2
starts a new process of the program and hands the sockets over to it.
.TP
.BR SIGTERM ", " SIGINT
drain: requests in progress can finish. A second signal ends the process at once.
.SH EXIT STATUS
.TP
.B 0
success
.TP
.B 1
failure at run time
.TP
.B 2
invalid command line
.TP
.B 78
invalid configuration
.SH FILES
.TP
.I /etc/mpgate/mpgate.toml
the configuration; mpgate config \-\-reference prints every key
.TP
.I /run/mpgate/admin.sock
the admin socket, by which commands find the running gateway
.TP
.I /var/lib/mpgate
certificates and other state
`
