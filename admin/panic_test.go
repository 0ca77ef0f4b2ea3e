package admin

import (
	"context"
	"sync/atomic"
	"testing"

	"mpgate/task"
)

// TestPanicOfAHandler ends its connection and is reported; the next request is answered.
func TestPanicOfAHandler(t *testing.T) {
	told := make(chan *task.Panic, 8)
	t.Cleanup(task.OnPanic(func(p *task.Panic) { told <- p }))
	path := socketPath(t)
	var calm atomic.Bool
	start(t, Options{Address: "unix:" + path, Status: func() any {
		if !calm.Load() {
			panic("status")
		}
		return "well"
	}})
	c := dial(t, "unix:"+path)
	var v any
	if err := c.Get(context.Background(), "/api/status", &v); err == nil {
		t.Errorf("it is answered: %v, %v", v, err)
	}
	if p := <-told; p.Task != "admin: GET /api/status" || p.Value != "status" {
		t.Errorf("reported: %v", p)
	}
	calm.Store(true)
	if err := c.Get(context.Background(), "/api/status", &v); err != nil || v != "well" {
		t.Errorf("then: %v, %v", v, err)
	}
}
