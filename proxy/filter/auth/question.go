package auth

import (
	"mpgate/proxy/message"
	"mpgate/proxy/target"
)

// get makes r a GET of u.
func get(r *message.Request, u *target.URL) {
	r.Version, r.Method, r.Scheme = message.HTTP11, []byte("GET"), u.Scheme
	r.Host, r.Port = []byte(u.Host), []byte(u.Port)
	r.Path, r.Query, r.HasQuery = []byte(u.Path), []byte(u.Query), u.HasQuery
}
