package admin

import "time"

// Status is the response of /api/status, shown by the live page and `mpgate status`. The gateway
// fills it; unknown values stay empty and are left out.
type Status struct {
	Version    string    `json:"version,omitempty"`
	PID        int       `json:"pid,omitempty"`
	Started    time.Time `json:"started,omitzero"`
	Config     string    `json:"config,omitempty"` // the file
	Generation uint64    `json:"generation,omitempty"`
	State      string    `json:"state,omitempty"`    // starting, ready or draining
	Reasons    []string  `json:"reasons,omitempty"`  // why not ready
	Draining   int       `json:"draining,omitempty"` // old generations with work left
	Reload     Reload    `json:"reload,omitzero"`
	// Writable: this address takes orders, as those on a unix socket do. The server sets it.
	Writable bool  `json:"writable,omitempty"`
	MPTCP    MPTCP `json:"mptcp,omitzero"`

	Listeners    []Listener    `json:"listeners,omitempty"`
	Certificates []Certificate `json:"certificates,omitempty"`
	Backends     []Backend     `json:"backends,omitempty"`
	Paths        []Path        `json:"paths,omitempty"`
}

// Reload is the outcome of the last load of the configuration.
type Reload struct {
	At    time.Time `json:"at,omitzero"`
	OK    bool      `json:"ok"`
	Error string    `json:"error,omitempty"` // every fault, a line each
}

// MPTCP is the support of the host, and whether it is used.
type MPTCP struct {
	Usable  bool   `json:"usable"`
	Enabled bool   `json:"enabled"` // not turned off by the operator
	Why     string `json:"why,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
	Kernel  string `json:"kernel,omitempty"`
}

// Listener is a listener with its sockets.
type Listener struct {
	Name    string   `json:"name"`
	MPTCP   string   `json:"mptcp,omitempty"` // configured: prefer, require or off
	TLS     bool     `json:"tls,omitempty"`
	Sockets []Socket `json:"sockets,omitempty"`
}

// Socket is what the kernel reports about a listening socket.
type Socket struct {
	Address   string `json:"address"`
	Transport string `json:"transport"` // mptcp, tcp or unix
	Inherited bool   `json:"inherited,omitempty"`
	Why       string `json:"why,omitempty"` // why it differs from the configured mode
	// Reserve: new connections are steered to another inherited socket of this address, of the
	// other protocol.
	Reserve bool `json:"reserve,omitempty"`
}

// Certificate is one that a listener serves.
type Certificate struct {
	Name     string    `json:"name"`
	NotAfter time.Time `json:"not_after,omitzero"`
	Issuer   string    `json:"issuer,omitempty"`
	Error    string    `json:"error,omitempty"` // of the last attempt to obtain or read it
}

// Backend is a backend with its servers.
type Backend struct {
	Name    string          `json:"name"`
	Balance string          `json:"balance,omitempty"`
	MPTCP   string          `json:"mptcp,omitempty"` // asked for
	Servers []BackendServer `json:"servers,omitempty"`
	Names   []BackendName   `json:"names,omitempty"` // of servers
}

// BackendName is what is known about a name of servers.
type BackendName struct {
	Name string `json:"name"`
	// Kind is "address", "all" or "srv", as in the configuration.
	Kind  string   `json:"kind"`
	Found []string `json:"found,omitempty"` // addresses, or the targets of SRV records
	Age   float64  `json:"age"`             // seconds since Found was last confirmed
	Next  float64  `json:"next"`            // seconds until the next lookup
	Error string   `json:"error,omitempty"` // of the last lookup
	// Failures is how many lookups have failed since the last one that found something.
	Failures int `json:"failures,omitempty"`
}

// BackendServer is one server of a backend.
type BackendServer struct {
	Address string `json:"address"`
	Up      bool   `json:"up"`            // it can be reached, passes its checks and is not ejected
	Why     string `json:"why,omitempty"` // why it is not up
	// Asked is what an operator has asked of it: drain, down, or nothing.
	Asked      string `json:"asked,omitempty"`
	InProgress int64  `json:"in_progress"` // requests, and connections whose bytes are forwarded
	Idle       int    `json:"idle"`        // connections
	// Share is the part of its weight that it has while it starts slowly.
	Share float64 `json:"share,omitempty"`
	// the transport of the last connection: mptcp, fallback, tcp or unix
	Transport string `json:"transport,omitempty"`
	Reason    string `json:"reason,omitempty"` // of a fallback, inferred
}

// Path is a declared path.
type Path struct {
	Name      string `json:"name"`
	Interface string `json:"interface,omitempty"`
	Address   string `json:"address,omitempty"`
	Role      string `json:"role,omitempty"`
	Backup    bool   `json:"backup,omitempty"`
	Up        bool   `json:"up"`
	Why       string `json:"why,omitempty"` // why it is not up
}
