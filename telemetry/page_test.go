package telemetry

import (
	"os"
	"strings"
	"testing"
)

// TestAccessLogPage compares the tables of docs/access-log.md with the fields and the reasons for
// an end.
func TestAccessLogPage(t *testing.T) {
	page, err := os.ReadFile("../docs/access-log.md")
	if err != nil {
		t.Fatal(err)
	}
	var tables [][]string // the rows of each, without the head
	inTable := false
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		switch {
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case strings.HasPrefix(line, "|---"):
			inTable = true
			tables = append(tables, nil)
		case inTable:
			tables[len(tables)-1] = append(tables[len(tables)-1], line)
		}
	}
	if len(tables) != 2 {
		t.Fatalf("the page has %d tables, want one of the fields and one of the ends", len(tables))
	}
	compareRows(t, tables[0], fieldRows())
	compareRows(t, tables[1], endRows())
}

// fieldRows groups neighbours with the same meaning in one row.
func fieldRows() (rows []string) {
	fields := accessFields(nil)
	for i := 0; i < len(fields); {
		doc, names := fields[i].doc, ""
		for sep := ""; i < len(fields) && fields[i].doc == doc; i, sep = i+1, ", " {
			names += sep + "`" + fields[i].name + "`"
		}
		rows = append(rows, "| "+names+" | "+doc+" |")
	}
	return rows
}

// endRows puts the zero value, a bug, last.
func endRows() (rows []string) {
	for _, e := range append(ends[1:], ends[0]) {
		rows = append(rows, "| `"+e.name+"` | "+e.doc+" |")
	}
	return rows
}

func compareRows(t *testing.T, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("docs/access-log.md, row %d:\n got %s\nwant %s", i+1, g, w)
		}
	}
}
