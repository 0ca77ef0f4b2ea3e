package gateway

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"mpgate/config"
	"mpgate/internal/proxytest"
	"mpgate/task"
)

// TestPanicOfATask is logged with its name and stack, and counted; the gateway continues.
func TestPanicOfATask(t *testing.T) {
	server, web := named(t, "a"), proxytest.FreeAddress(t)
	r := startRig(t, head+listenerTable("web", web, "")+routeTable("all", "", "app")+backendTable("app", server, ""), nil)
	task.Go("one task", func() { panic("its fault") }, nil)
	r.logs(`task="one task" panic="its fault" stack="goroutine .*TestPanicOfATask`)
	if n := r.metrics.TaskPanics.Value(); n != 1 {
		t.Errorf("%d panics are counted", n)
	}
	if got := fetch(t, "http://"+web+"/"); got != "200 a" {
		t.Errorf("it answers %q", got)
	}
}

// TestPanicOfAReload refuses it. The next one goes through: nothing is left locked.
func TestPanicOfAReload(t *testing.T) {
	server, web := named(t, "a"), proxytest.FreeAddress(t)
	toml := head + listenerTable("web", web, "") + routeTable("all", "", "app") + backendTable("app", server, "")
	var faulty atomic.Bool
	r := startRig(t, toml, func(o *Options) {
		load := o.Load
		o.Load = func() (*config.Config, error) {
			if faulty.Swap(false) {
				panic(io.ErrUnexpectedEOF)
			}
			return load()
		}
	})
	faulty.Store(true)
	if err := r.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "internal error: reload panicked: unexpected EOF") {
		t.Errorf("the reload ends with %v", err)
	}
	r.swap(toml)
	if n := r.Status().Generation; n != 2 {
		t.Errorf("generation %d, want 2", n)
	}
}

// TestTaskGoesOnAfterAPanic: one that is kept runs again, and its error still ends the gateway; one
// that is not kept has ended.
func TestTaskGoesOnAfterAPanic(t *testing.T) {
	defer task.OnPanic(func(*task.Panic) {})() // they are meant
	log := new(logText)
	tasks := newTasks(NewLogger(new(LogSettings), log))
	defer tasks.stop()
	var runs atomic.Int64
	kept := tasks.keep("kept", func(ctx context.Context) error {
		if runs.Add(1) == 1 {
			panic("once")
		}
		return io.ErrUnexpectedEOF
	})
	once := tasks.run("once", func(context.Context) error { panic("once") })
	<-once.done
	<-kept.done
	if runs.Load() != 2 {
		t.Errorf("%d runs", runs.Load())
	}
	if err := <-tasks.failed; err.Error() != "kept: unexpected EOF" {
		t.Errorf("failed: %v", err)
	}
	if !proxytest.Within(patience, func() bool { return len(tasks.failed) == 0 }) {
		t.Error("a panic ends the gateway")
	}
}
