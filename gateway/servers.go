package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"mpgate/admin"
	"mpgate/proxy/backend"
)

// maxOrder bounds the body of a request to change the state of a server.
const maxOrder = 4 << 10

// serveServer changes the administrative state of a server: it takes an admin.ServerOrder, and
// answers with a line for the operator.
func (g *Gateway) serveServer(w http.ResponseWriter, r *http.Request) {
	var order admin.ServerOrder
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder)).Decode(&order); err != nil {
		http.Error(w, `the body must be for example {"server": "api/10.0.1.10:8080", "state": "drain"}: `+err.Error(), http.StatusBadRequest)
		return
	}
	to, err := backend.ParseAdminState(order.State)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	g.mu.Lock() // a reload or an upgrade takes over the state of before or after
	defer g.mu.Unlock()
	if g.isReplaced() {
		http.Error(w, "another process has taken over; ask again", http.StatusConflict)
		return
	}
	name, address, _ := strings.Cut(order.Server, "/")
	p := g.gen.Load().backends[name]
	if p == nil {
		http.Error(w, fmt.Sprintf("there is no backend %q; mpgate server lists them", name), http.StatusNotFound)
		return
	}
	before := p.adminState(address)
	servers, inProgress := p.SetAdminState(address, to)
	if servers == 0 {
		http.Error(w, fmt.Sprintf("backend %q has no server %q; mpgate server lists them", name, address), http.StatusNotFound)
		return
	}
	if before != to {
		g.log.Info("the state of a server was changed by an operator", "backend", name, "server", address, "state", to.String(), "before", before.String(),
			"in_progress", inProgress)
	}
	_, _ = io.WriteString(w, orderResult(order.Server, to, inProgress)+"\n")
}

// adminState returns the state that an operator has given to a server.
func (p *pool) adminState(address string) backend.AdminState {
	for _, s := range p.Status() {
		if s.Address == address {
			return s.Admin
		}
	}
	return backend.AdminUp
}

// orderResult says what is left to do for a server.
func orderResult(server string, to backend.AdminState, inProgress int64) string {
	text := map[backend.AdminState]string{
		backend.AdminUp: "gets requests again", backend.AdminDrain: "gets no new requests", backend.AdminDown: "gets no requests",
	}[to]
	return fmt.Sprintf("%s %s; %s in progress", server, text, admin.Count(inProgress, "request"))
}
