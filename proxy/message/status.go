package message

import "net/http"

// StatusText is the reason phrase that mpgate writes for a status code; never empty.
func StatusText(status int) string {
	if s := http.StatusText(status); s != "" {
		return s
	}
	return "Status"
}
