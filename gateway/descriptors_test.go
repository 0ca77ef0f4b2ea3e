package gateway

import "testing"

func TestShareOut(t *testing.T) {
	for _, c := range []struct {
		descriptors                  uint64
		configured, clients, servers int
	}{
		{1024, 0, 384, 384},
		{1024, 100, 100, 668},
		{1024, 700, 672, 96},
		{1024, 1 << 20, 672, 96},
		{524288, 0, 262016, 262016},
		{1 << 62, 0, (1<<30 - 256) / 2, (1<<30 - 256) / 2},
		{512, 0, 128, 128},
		{300, 0, 75, 75},
		{200, 20, 20, 80},
		{100, 0, 25, 25},
		{64, 0, 16, 16},
		{0, 50, 1, 1},
	} {
		if clients, servers := divideDescriptors(c.descriptors, c.configured); clients != c.clients || servers != c.servers {
			t.Errorf("%d descriptors, %d configured: %d and %d, want %d and %d", c.descriptors, c.configured, clients, servers, c.clients, c.servers)
		}
	}
}
