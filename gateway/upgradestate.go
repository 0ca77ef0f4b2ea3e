package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"mpgate/proxy/backend"
	"mpgate/task"
)

// handedState is what the gateway has learned and been asked while it ran, as JSON for the process
// that replaces it. Unlike sockets, all of it can be missing.
type handedState struct {
	Servers map[string][]backend.ServerState `json:",omitempty"` // by backend
	Names   []backend.NameState              `json:",omitempty"`
}

const (
	// maxState bounds what is read of it: 10,000 servers have about 2 MiB.
	maxState = 64 << 20
	// stateTime is how long each side waits for the other.
	stateTime = 10 * time.Second
)

// handOverState returns a pipe from which the new process reads the state. g.mu is held, so that
// nobody changes the state of a server before the new process has it.
func (g *Gateway) handOverState() (*os.File, error) {
	s := handedState{Servers: map[string][]backend.ServerState{}, Names: g.names.States()}
	for name, p := range g.gen.Load().backends {
		s.Servers[name] = p.States()
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_ = to.SetWriteDeadline(time.Now().Add(upgradeTime))
	task.Go("upgrade: state", func() {
		defer to.Close()
		// A process of an older version does not read it.
		if _, err := to.Write(text); err != nil && !errors.Is(err, syscall.EPIPE) {
			g.log.Warn("the new process did not take over the state of the servers", "err", err)
		}
	}, nil)
	return from, nil
}

// readState reads the state of the process before. It is empty if that fails.
func readState(from *os.File) (s handedState) {
	defer from.Close()
	_ = from.SetReadDeadline(time.Now().Add(stateTime))
	text, err := io.ReadAll(io.LimitReader(from, maxState))
	if err != nil || json.Unmarshal(text, &s) != nil {
		return handedState{}
	}
	return s
}

// nameStates are what the process before knew about names.
func (p *Parent) nameStates() []backend.NameState {
	if p == nil {
		return nil
	}
	return p.state.Names
}

// serverStates are those of a backend in the process before.
func (p *Parent) serverStates(name string) []backend.ServerState {
	if p == nil {
		return nil
	}
	return p.state.Servers[name]
}
