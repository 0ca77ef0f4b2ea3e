package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// Client talks to the admin address of a running gateway.
type Client struct {
	address string
	base    string
	http    *http.Client
}

// StatusError is a response other than 2xx.
type StatusError struct {
	Code int
	Body string // without surrounding white space
}

func (e *StatusError) Error() string {
	if e.Body == "" {
		return fmt.Sprintf("the gateway answered %d %s", e.Code, http.StatusText(e.Code))
	}
	return e.Body
}

// ErrNoGateway is in the error of a request that no gateway answered.
var ErrNoGateway = errors.New("no gateway answers")

// maxResponse bounds the bytes read into memory.
const maxResponse = 64 << 20

// Dial returns a client for unix:/path or host:port. It connects with the first request.
func Dial(address string) (*Client, error) {
	c := &Client{address: address, base: "http://" + address}
	network, target := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, target, c.base = "unix", path, "http://mpgate"
	} else if host, port, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf(`admin address (got %q); unix:/path or host:port`, address)
	} else if host == "" || host == "0.0.0.0" || host == "::" {
		// A wildcard address is reached by loopback.
		target = net.JoinHostPort("localhost", port)
		c.base = "http://" + target
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	d.SetMultipathTCP(false)
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, network, target) },
	}}
	return c, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get reads a path. out is where the JSON goes, or a *string or *[]byte that gets the answer as it
// is, or nil.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.do(ctx, http.MethodGet, path, nil, out)
}

// Post sends in as JSON (nil: nothing) and reads the answer as Get does. It may take as long as ctx
// allows. On host:port a gateway refuses it.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	return c.do(ctx, http.MethodPost, path, in, out)
}

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil {
		return fmt.Errorf("%s: the response was truncated: %w", c.address, err)
	}
	if resp.StatusCode/100 != 2 {
		return &StatusError{Code: resp.StatusCode, Body: strings.TrimSpace(string(answer))}
	}
	switch out := out.(type) {
	case nil:
	case *string:
		*out = string(answer)
	case *[]byte:
		*out = answer
	default:
		if err := json.Unmarshal(answer, out); err != nil {
			return fmt.Errorf("%s%s: %w", c.address, path, err)
		}
	}
	return nil
}

// unreachable adds to the error what an operator can do about it.
func (c *Client) unreachable(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w at %s: check that it is running with this [admin] address", ErrNoGateway, c.address)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w at %s: permission denied; run as its user or as a member of the socket's group", ErrNoGateway, c.address)
	}
	return fmt.Errorf("%w at %s: %w", ErrNoGateway, c.address, err)
}
