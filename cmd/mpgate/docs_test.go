package main

import (
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"mpgate/telemetry"
)

func readDoc(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// rows are those of the tables of a page whose first cell begins with code.
func rows(text string) (list [][]string) {
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		list = append(list, cells)
	}
	return list
}

var code = regexp.MustCompile("`([^`]+)`")

// codes are the words in code of a cell.
func codes(cell string) (list []string) {
	for _, m := range code.FindAllStringSubmatch(cell, -1) {
		list = append(list, m[1])
	}
	return list
}

// TestMetricsPage holds docs/metrics.md to the metrics there are, with their labels, and to what a
// gateway exports.
func TestMetricsPage(t *testing.T) {
	descs := make(chan *prometheus.Desc, 1000)
	telemetry.NewInstruments("test").Registry().Describe(descs)
	close(descs)
	re := regexp.MustCompile(`fqName: "([^"]+)", help: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	var want []string
	for d := range descs {
		m := re.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("not understood: %s", d)
		}
		if strings.HasPrefix(m[1], "mpgate_") {
			want = append(want, m[1]+" {"+m[3]+"} "+m[2])
		}
	}
	var got, names []string
	for _, r := range rows(readDoc(t, "../../docs/metrics.md")) {
		name := codes(r[0])[0]
		names = append(names, name)
		got = append(got, name+" {"+strings.Join(codes(r[1]), ",")+"} "+strings.TrimSpace(r[2]))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("docs/metrics.md has\n%s\nand mpgate\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	d := startDemo(t, nil)
	fetch(t, http.DefaultClient, "GET", d.web+"/", nil)
	http.DefaultClient.CloseIdleConnections()
	exported := 0
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (mpgate_\w+)`).FindAllStringSubmatch(fetch(t, http.DefaultClient, "GET", d.admin+"/metrics", nil), -1) {
		exported++
		if !slices.Contains(names, m[1]) {
			t.Errorf("%s is exported and not in docs/metrics.md", m[1])
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if exported < 15 {
		t.Errorf("only %d metrics are exported", exported)
	}
	d.signal(syscall.SIGTERM)
	d.exits(0)
}

// TestArchitecture holds the imports to the table of ARCHITECTURE.md, and the table to the packages
// there are.
func TestArchitecture(t *testing.T) {
	may := map[string][]string{} // what a package may import
	for _, r := range rows(readDoc(t, "../../ARCHITECTURE.md")) {
		allowed := codes(r[2])
		switch r[2] {
		case "anything":
			allowed = []string{"…"}
		case "anything but `cmd`":
			allowed = []string{"!cmd"}
		}
		may[codes(r[0])[0]] = allowed
	}
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		words := strings.Fields(line)
		pkg := strings.TrimPrefix(words[0], "mpgate/")
		row := pkg
		if _, ok := may[row]; ok {
			found++
		} else if row = pkg[:max(0, strings.LastIndexByte(pkg, '/'))]; may[row] == nil || row == "proxy" {
			t.Errorf("%s is not in the table of ARCHITECTURE.md", pkg)
			continue
		}
		for _, full := range words[1:] {
			to, ours := strings.CutPrefix(full, "mpgate/")
			switch {
			case ours && !allowed(may[row], row, to):
				t.Errorf("%s imports %s, which ARCHITECTURE.md does not allow", pkg, to)
			case full == "github.com/caddyserver/certmagic" && pkg != "certs":
				t.Errorf("%s imports certmagic, which is for certs alone", pkg)
			}
		}
	}
	if found != len(may) {
		t.Errorf("the table of ARCHITECTURE.md has %d packages, %d of them are there", len(may), found)
	}
}

// allowed: "x" is a package, "x/…" all below it, "…" all, "!x" all but x and what is below.
func allowed(list []string, from, to string) bool {
	for _, a := range list {
		prefix, below := strings.CutSuffix(a, "…")
		not, but := strings.CutPrefix(a, "!")
		switch {
		case a == to, below && strings.HasPrefix(to, prefix):
			return true
		case but && to != not && !strings.HasPrefix(to, not+"/"):
			return true
		}
	}
	return strings.HasPrefix(to, from+"/")
}
