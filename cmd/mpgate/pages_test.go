package main

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestPages checks every configuration in the pages of docs. TestFilterPages and TestMigratePage
// check more of theirs.
func TestPages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, page := range pages {
		if filepath.Base(page) == "migrate.md" {
			continue
		}
		for i, b := range blocks(t, page) {
			if b.kind == "toml" {
				n++
				t.Run(fmt.Sprint(filepath.Base(page), i), func(t *testing.T) { completeTOML(t, b.text) })
			}
		}
	}
	if n < 10 {
		t.Errorf("the pages have %d configurations", n)
	}
}
