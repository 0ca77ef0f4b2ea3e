package message

import "testing"

func TestStatusText(t *testing.T) {
	for status, want := range map[int]string{
		200: "OK", 404: "Not Found", 413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable",
		422: "Unprocessable Content", 429: "Too Many Requests", 799: "Status",
	} {
		if got := StatusText(status); got != want {
			t.Errorf("%d is %q, want %q", status, got, want)
		}
	}
}
