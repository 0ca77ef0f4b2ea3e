package message

import "net/http"

// StatusText is the reason phrase that mpgate writes for a status code: that of RFC 9110 section 15
// where net/http has an older one. It is never empty.
func StatusText(status int) string {
	switch status {
	case 413:
		return "Content Too Large"
	case 414:
		return "URI Too Long"
	case 416:
		return "Range Not Satisfiable"
	case 422:
		return "Unprocessable Content"
	}
	if s := http.StatusText(status); s != "" {
		return s
	}
	return "Status"
}
