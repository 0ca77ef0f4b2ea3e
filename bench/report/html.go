package report

import (
	"io"

	"mpgate/bench/result"
)

// HTML writes the page.
func HTML(w io.Writer, rep *result.Report) error { return nil }
