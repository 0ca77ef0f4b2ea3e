package report

import (
	"errors"
	"fmt"
	"html"
	"io"
	"strings"

	"mpgate/bench/figures"
	"mpgate/bench/result"
)

// plotStyle is what the page's style says of drawings, for one that stands alone.
const plotStyle = `<style>
svg{background:#fbfbfa}
text{font:13px system-ui,sans-serif;fill:#1d2126}
.muted,.tick{fill:#5c6570}.tick{font-size:12px}.head{font-weight:600}
.bar{fill:#8a97a6}.own{fill:#0b6e8f}.axis{stroke:#5c6570}.grid{stroke:#d9dce0}
.whisker{stroke:#1d2126;stroke-width:1.25}.event{stroke:#1d2126;stroke-width:1.25;stroke-dasharray:4 3}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.line.s0{stroke:#0b6e8f}.line.s1{stroke:#b4501e}.line.s2{stroke:#5b7f2b}.line.s3{stroke:#7a4fa3}.line.s4{stroke:#a8812a}.line.s5{stroke:#5c6570}
.fill.s0{fill:#0b6e8f}.fill.s1{fill:#b4501e}.fill.s2{fill:#5b7f2b}.fill.s3{fill:#7a4fa3}.fill.s4{fill:#a8812a}.fill.s5{fill:#5c6570}
</style>`

// Plot writes the one drawing that says most of a run, as an SVG that stands alone, with the date
// and the machine beneath it.
func Plot(w io.Writer, rep *result.Report) error {
	drawing := ""
	switch {
	case len(rep.Cases) > 0:
		drawing = caseGroups(rep)
	case len(rep.Paths) > 0:
		best := &rep.Paths[0]
		for i := range rep.Paths {
			// A path that dies in silence is the case that nobody can see coming.
			if c := &rep.Paths[i]; c.Workload == "download" && c.Event == "silent drop" && !c.Returns {
				best = c
				break
			}
		}
		if drawing = timeline(best); drawing == "" {
			drawing = pathBars(best)
		}
	case len(rep.Growth) > 0:
		if charts := growthSection(&rep.Growth[0]).Charts; len(charts) > 0 {
			drawing = charts[0]
		}
	case len(rep.Abuse) > 0:
		if list := abuseSections(rep); len(list) > 0 {
			drawing = list[0].Charts[0]
		}
	}
	if drawing == "" {
		return errors.New("plot: nothing was measured that could be drawn")
	}
	_, err := io.WriteString(w, captioned(drawing, rep)+"\n")
	return err
}

// captioned makes a drawing of the page one of its own: larger by some lines, which say what it
// shows and where it comes from.
func captioned(drawing string, rep *result.Report) string {
	var width, height float64
	_, _ = fmt.Sscanf(drawing, `<svg viewBox="0 0 %f %f"`, &width, &height)
	_, rest, _ := strings.Cut(drawing, "<title>")
	title, rest, _ := strings.Cut(rest, "</title>")
	const line, room = 19, 96 // pixels, and letters that fit into a line
	above, below := wrapped(html.UnescapeString(title), room), append(wrapped(madeBy(rep), room+10), "")
	top := float64(len(above)*line + 6)
	all := top + height + float64(len(below)*line)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-label="%s" xmlns="http://www.w3.org/2000/svg"><title>%s</title>%s<rect width="%.0f" height="%.0f" fill="#fbfbfa"/>`,
		width, all, width, all, title, title, plotStyle, width, all)
	for i, text := range above {
		fmt.Fprintf(&b, `<text x="8" y="%d" class="head">%s</text>`, (i+1)*line-2, html.EscapeString(text))
	}
	fmt.Fprintf(&b, `<g transform="translate(0 %.0f)">%s</g>`, top, strings.TrimSuffix(rest, "</svg>"))
	for i, text := range below {
		fmt.Fprintf(&b, `<text x="8" y="%.0f" class="tick">%s</text>`, top+height+float64((i+1)*line), html.EscapeString(text))
	}
	b.WriteString("</svg>")
	return b.String()
}

// wrapped breaks a text between words, into lines of at most room letters.
func wrapped(text string, room int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > room {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}

// madeBy is the command, the day and the machine.
func madeBy(rep *result.Report) string {
	m := rep.Machine
	return fmt.Sprintf("go run ./bench %s, %s, %d x %s%s, Linux %s", strings.Join(plainArgs(rep.Argv), " "), rep.Started.Format("2006-01-02"),
		m.CPUs, m.CPU, map[bool]string{true: " (" + m.Virtual + ")"}[m.Virtual != ""], m.Kernel)
}

// plainArgs leaves out of a command line where programs and files are: they are this machine's.
func plainArgs(argv []string) []string {
	files := map[string]bool{"--json": true, "--html": true, "--svg": true, "--markdown": true, "--mpgate": true, "--nginx": true, "--haproxy": true, "--caddy": true, "--wrk": true, "--h2load": true}
	var list []string
	for i := 1; i < len(argv); i++ {
		name, _, joined := strings.Cut(argv[i], "=")
		if !files[name] {
			list = append(list, argv[i])
		} else if !joined {
			i++
		}
	}
	return list
}

// caseGroups draws the CPU time a request of every case, the proxies of one beside each other. Each
// case has a scale of its own.
func caseGroups(rep *result.Report) string {
	const (
		width, right     = 760.0, 120.0
		row, thick, head = 19.0, 12.0, 26.0
		letter           = 7.5 // as wide as any
	)
	s := &svg{width: width}
	y, left := 0.0, 90.0
	for i := range rep.Cases {
		for j := range rep.Cases[i].Entries {
			left = max(left, letter*float64(len(rep.Cases[i].Entries[j].Proxy))+16)
		}
	}
	for i := range rep.Cases {
		c := &rep.Cases[i]
		var most float64
		for j := range c.Entries {
			most = max(most, c.Entries[j].CPU().Max)
		}
		if most == 0 || c.Rate > 0 {
			continue
		}
		s.text(8, y+head-8, "label", "start", shortName(c))
		y += head
		for j := range c.Entries {
			e := &c.Entries[j]
			f := e.CPU()
			if f.N == 0 {
				continue
			}
			scale := (width - left - right) / most
			s.text(left-8, y+row/2+4.5, "muted", "end", e.Proxy)
			s.rect(left, y+(row-thick)/2, max(1, f.Median*scale), thick, map[bool]string{true: "bar own", false: "bar"}[e.Proxy == baselineOf(rep, c)])
			if f.Max > f.Min {
				s.stroke(left+f.Min*scale, y+row/2, left+f.Max*scale, y+row/2, "whisker")
			}
			s.text(left+f.Max*scale+8, y+row/2+4.5, "value", "start", cost(c, e))
			y += row
		}
	}
	if y == 0 {
		return ""
	}
	s.height = y + 4
	return s.done("CPU time of the proxy a request (a GiB for the large answers), shorter is better; lines: smallest to largest round")
}

// large answers are told by what a GiB of them costs.
const large = 1 << 20

// cost writes what a request costs, or a GiB.
func cost(c *result.Case, e *result.Entry) string {
	if c.Body >= large {
		return fmt.Sprintf("%.0f ms/GiB", e.CPUPerGiB().Median)
	}
	return figures.Micros(e.CPU().Median) + " µs"
}

// shortName is what differs from one case to the next.
func shortName(c *result.Case) string {
	parts := []string{figures.Size(c.Body)}
	if c.Title != "" {
		parts[0] = c.Title + ", " + parts[0]
	}
	switch {
	case c.Streams == 1:
		parts = []string{"one stream of HTTP/2 over TLS, " + figures.Size(c.Body)}
	case c.Streams > 1:
		parts = append(parts, "HTTP/2 over TLS")
	case c.Protocol == "h1 tls":
		parts = append(parts, "TLS")
	}
	switch c.Transport {
	case result.MPTCPFront:
		parts = append(parts, "MPTCP in front")
	case result.MPTCPBoth:
		parts = append(parts, "MPTCP on both sides")
	}
	if c.Close {
		parts = append(parts, "one connection a request")
	}
	if c.Log {
		parts = append(parts, "access log to a file")
	}
	return strings.Join(parts, ", ")
}

// Markdown writes the one table that says most of a run, with a line before it that says what it
// is.
func Markdown(w io.Writer, rep *result.Report) error {
	var t Table
	var what string
	switch {
	case len(rep.Cases) > 0 && rep.Cases[0].Baseline != "":
		t, what = comparisonTable(rep)
	case len(rep.Cases) > 0:
		t, what = costTable(rep)
	case len(rep.Paths) > 0:
		t, what = goodputTable(rep)
	default:
		return fmt.Errorf("markdown: there is no table for %s", rep.Verb)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s)\n\n", what, madeBy(rep))
	for i, row := range append([][]string{t.Columns}, t.Rows...) {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString("|---|" + strings.Repeat("---:|", len(t.Columns)-1) + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func costTable(rep *result.Report) (Table, string) {
	t := Table{Columns: []string{""}}
	for _, p := range rep.Proxies {
		name := p.Name
		if p.Name != rep.Baseline && p.Name != "stdlib" {
			name += " " + strings.SplitN(p.Version, "-", 2)[0]
		}
		t.Columns = append(t.Columns, name)
	}
	rounds := 0
	for i := range rep.Cases {
		c := &rep.Cases[i]
		if c.Rate > 0 {
			continue
		}
		row := []string{shortName(c)}
		for _, p := range rep.Proxies {
			cell := "-"
			if e := c.Entry(p.Name); e != nil && e.CPU().N > 0 {
				cell = cost(c, e)
				rounds = max(rounds, len(e.Rounds))
			}
			row = append(row, cell)
		}
		t.Rows = append(t.Rows, row)
	}
	return t, fmt.Sprintf("CPU time of the proxy's processes a request, and a GiB for large answers: medians of %d interleaved rounds", rounds)
}

func goodputTable(rep *result.Report) (Table, string) {
	t := Table{Columns: []string{"", "Mbit/s on one path, TCP", "on all, MPTCP", "of the sum", "gap ms", "with fail-over", "failed"}}
	for i := range rep.Paths {
		c := &rep.Paths[i]
		if c.Workload != "download" && c.Workload != "upload" || len(c.Entries) == 0 {
			continue
		}
		row := []string{strings.TrimSuffix(c.Name(), ", "+c.Congestion), shown(c.Entries[0].Goodput(), mbit), "-", "-", "-", "-", "-"}
		for j := range c.Entries {
			e := &c.Entries[j]
			failed, _ := e.Failed()
			switch {
			case e.Variant == "MPTCP, all paths":
				row[2], row[6] = shown(e.Goodput(), mbit), fmt.Sprint(failed)
				if c.Event == "" {
					row[3] = shown(c.Share(e), percent)
				} else {
					row[4] = shown(e.Gap(), whole)
				}
			case e.Variant == "MPTCP, fail-over":
				row[5] = shown(e.Gap(), whole)
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return t, "Goodput through mpgate, and the longest silence at the receiver where path 1 dies; medians"
}
