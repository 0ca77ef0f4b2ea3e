package report

import (
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"

	"mpgate/bench/figures"
	"mpgate/bench/result"

	_ "embed"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// pageSection is a table with the drawing above it.
type pageSection struct {
	ID, Title string
	Charts    []template.HTML // made by svg.go, which escapes all text
	Table     Table
}

type pair struct{ Name, Value string }

type pageData struct {
	*result.Report
	Title    string
	Machine  string
	Command  string
	Sections []pageSection
	Sysctls  []pair
	Tools    []pair
	Configs  []pageConfig
}

// pageConfig is how a proxy was run in one case.
type pageConfig struct {
	Case, Proxy, Command string
	Files                []pair
}

// HTML writes one page with everything in it: no script, nothing loaded from elsewhere.
func HTML(w io.Writer, rep *result.Report) error {
	d := pageData{
		Report: rep, Title: "mpgate bench " + rep.Verb, Machine: machineLine(rep), Command: strings.Join(rep.Argv, " "),
		Sysctls: pairs(rep.Machine.Sysctls), Tools: pairs(rep.Machine.Tools),
	}
	for i, s := range sections(rep) {
		p := pageSection{ID: fmt.Sprintf("s%d", i+1), Title: s.Title, Table: s.Table}
		for _, drawing := range s.Charts {
			p.Charts = append(p.Charts, template.HTML(drawing))
		}
		d.Sections = append(d.Sections, p)
	}
	for i := range rep.Cases {
		d.Configs = append(d.Configs, configs(&rep.Cases[i])...)
	}
	d.Configs = append(d.Configs, pathConfigs(rep)...)
	return page.Execute(w, d)
}

func pairs(m map[string]string) []pair {
	var list []pair
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, pair{k, m[k]})
	}
	return list
}

func configs(c *result.Case) []pageConfig {
	var list []pageConfig
	for _, e := range c.Entries {
		if e.Failed == "" {
			list = append(list, pageConfig{c.Name(), e.Proxy, strings.Join(slices.Concat(e.Env, e.Command), " "), pairs(e.Files)})
		}
	}
	return list
}

func idleChart(rep *result.Report) string {
	most := 0
	for _, i := range rep.Idle {
		most = max(most, i.Connections)
	}
	var list []bar
	for _, i := range rep.Idle {
		if i.Connections != most {
			continue
		}
		b := bar{label: i.Proxy, standout: i.Proxy == rep.Baseline}
		if i.Failed == "" {
			b.spread = figures.Of([]float64{max(i.PerConn, 0)})
			b.value = figures.Memory(i.PerConn)
		}
		list = append(list, b)
	}
	return bars(fmt.Sprintf("memory of an idle connection, of %d", most), list)
}
