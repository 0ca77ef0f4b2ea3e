package admin

import (
	"embed"
	"net/http"
	"path"
)

// The page is plain HTML, CSS and JavaScript, and sends requests only to this server.
//
//go:embed page
var pageFiles embed.FS

var pageTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
}

func page(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body, err := pageFiles.ReadFile("page/" + name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", pageTypes[path.Ext(name)])
		_, _ = w.Write(body)
	})
}
