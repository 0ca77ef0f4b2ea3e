package gateway

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"mpgate/config"
	"mpgate/internal/acmetest"
)

// A name that has no address is warned of at each server that has it; none of the others is.
func TestCheckNames(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mpgate.toml")
	acmetest.Replace(t, file, []byte(head+listenerTable("web", "127.0.0.1:0", "")+routeTable("all", "", "app")+
		"[[backend]]\nname = \"app\"\nservers = [\n{ address = \"localhost:1\" },\n{ address = \"nosuch.invalid:1\" },\n{ address = \"nosuch.invalid:2\" },\n{ address = \"unix:/x\" } ]\n"))
	cfg, err := config.Load(file, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	warnings := CheckNames(context.Background(), cfg)
	if len(warnings) != 2 {
		t.Fatalf("got %v, want two warnings", warnings)
	}
	for i, f := range warnings {
		key := "backend.app.servers[" + string(rune('1'+i)) + "].address"
		if f.Severity != config.Warning || f.Key != key || f.File != file || !strings.Contains(f.Msg, "does not resolve here") {
			t.Errorf("got %+v, want a warning about %s", f, key)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if n := len(CheckNames(ctx, cfg)); n < 2 {
		t.Errorf("%d warnings of a lookup that has no time", n)
	}
}
