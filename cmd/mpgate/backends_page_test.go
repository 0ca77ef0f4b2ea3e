package main

import (
	"fmt"
	"testing"
)

// TestBackendsPage checks every configuration in docs/backends.md.
func TestBackendsPage(t *testing.T) {
	n := 0
	for i, b := range blocks(t, "../../docs/backends.md") {
		if b.kind == "toml" {
			n++
			t.Run(fmt.Sprint(i), func(t *testing.T) { migrateTOML(t, b.text) })
		}
	}
	if n < 2 {
		t.Errorf("the page has %d configurations", n)
	}
}
