package backend

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// chosen returns the server of each of many keys.
func chosen(b *Backend, keys int) []string {
	list := make([]string, keys)
	var a Attempt
	for i := range list {
		a.Reset(b)
		a.SetKey(fmt.Appendf(nil, "192.0.%d.%d", i/250, i%250))
		list[i] = a.pick(epoch.Add(time.Second)).Address
	}
	return list
}

// hashPool makes a backend with the servers of these numbers and weights.
func hashPool(t testing.TB, numbers []int, weight func(int) int) *Backend {
	t.Helper()
	o := Options{Name: "hash", Balance: hashName}
	for _, i := range numbers {
		o.Servers = append(o.Servers, ServerOptions{Address: fmt.Sprintf("10.0.0.%d:80", i), Weight: weight(i)})
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Discard)
	return b
}

func one(int) int { return 1 }

const hashKeys = 50_000

// moved returns the share of keys that moved, and reports keys that moved although neither their
// old nor their new server is the one that changed.
func moved(t *testing.T, before, after []string, changed string) float64 {
	t.Helper()
	n := 0
	for i := range before {
		if before[i] == after[i] {
			continue
		}
		n++
		if before[i] != changed && after[i] != changed {
			t.Fatalf("key %d moved from %s to %s when %s changed", i, before[i], after[i], changed)
		}
	}
	return float64(n) / float64(len(before))
}

// When a server is removed, or is unavailable, only its keys move, and all others share them. When
// one is added, keys move to it only. The order does not matter.
func TestHashMovesFewKeys(t *testing.T) {
	ten := chosen(hashPool(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, one), hashKeys)
	nine := chosen(hashPool(t, []int{10, 9, 8, 7, 6, 4, 3, 2, 1}, one), hashKeys)
	without := hashPool(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, one)
	breaks(without.list()[4])
	for name, after := range map[string][]string{"removed": nine, "down": chosen(without, hashKeys)} {
		share := moved(t, ten, after, "10.0.0.5:80")
		t.Logf("1 of 10 servers %s: %.2f %% of the keys moved", name, 100*share)
		if share > 0.11 || share < 0.09 {
			t.Errorf("%s: %.4f of the keys moved, want 0.1", name, share)
		}
		to := map[string]int{}
		for i := range ten {
			if ten[i] == "10.0.0.5:80" {
				to[after[i]]++
			}
		}
		for _, s := range []int{1, 2, 3, 4, 6, 7, 8, 9, 10} {
			n := float64(to[fmt.Sprintf("10.0.0.%d:80", s)])
			if want := share * hashKeys / 9; n < 0.75*want || n > 1.25*want {
				t.Errorf("%s: server %d got %v of the keys that moved, want about %v", name, s, n, want)
			}
		}
	}
	heavier := hashPool(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, func(i int) int { return 10 + 10*(i/10) })
	// 2/11 - 1/10
	if share := moved(t, ten, chosen(heavier, hashKeys), "10.0.0.10:80"); share < 0.07 || share > 0.095 {
		t.Errorf("%.4f of the keys moved to the server that got twice the weight, want 0.082", share)
	}
}

// Keys are divided by weight, also among many servers.
func TestHashShares(t *testing.T) {
	for _, n := range []int{2, 10, 100} {
		numbers, total := []int{}, 0
		weight := func(i int) int { return 1 + i%3 }
		for i := range n {
			numbers = append(numbers, i)
			total += weight(i)
		}
		got := map[string]int{}
		for _, s := range chosen(hashPool(t, numbers, weight), hashKeys) {
			got[s]++
		}
		for _, i := range numbers {
			share, want := float64(got[fmt.Sprintf("10.0.0.%d:80", i)])/hashKeys, float64(weight(i))/float64(total)
			// Five standard deviations of the slots and of the keys.
			if tolerance := 5 * math.Sqrt(want*(1-want)*(1.0/hashSlots+1.0/hashKeys)); math.Abs(share-want) > tolerance {
				t.Errorf("%d servers: server %d got %.4f of the keys, want %.4f ± %.4f", n, i, share, want, tolerance)
			}
		}
	}
}

// Gateways agree, and so do the versions of mpgate: the choices for the same keys may not change.
func TestHashIsStable(t *testing.T) {
	got := ""
	for _, s := range chosen(hashPool(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9}, one), 40) {
		got += s[len("10.0.0."):len("10.0.0.1")]
	}
	if want := "4398326153328972944441132219666362985622"; got != want {
		t.Errorf("the choices for the same keys changed: got %q, want %q", got, want)
	}
}

// Half of all requests have the same key: its server gets at most 1.25 times its share, and what
// it cannot take is divided.
func TestHashBoundsLoad(t *testing.T) {
	b := simulated(t, hashName, equal(10)...)
	m := &simulation{
		backend: b, rate: 10_000, workers: 1 << 20,
		key: func(random *rand.Rand) []byte {
			if random.IntN(2) == 0 {
				return []byte("hot")
			}
			return fmt.Append(nil, random.Uint64())
		},
		service: func(_ int, _ time.Duration, random *rand.Rand) time.Duration {
			return exponentially(20*time.Millisecond, random) // so 200 are in progress on average
		},
	}
	m.run(10 * time.Second)
	// The number in progress varies: at most about 260.
	for i, n := range m.busy {
		if n > 35 {
			t.Errorf("server %d had %d requests at a time; 20 is the average", i, n)
		}
	}
	t.Logf("requests %v, most at a time %v", m.sent, m.busy)
}

// A few requests with the same key stay on their server although it has all of the requests.
func TestHashFewRequests(t *testing.T) {
	b := hashPool(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, one)
	var a Attempt
	a.Reset(b)
	a.SetKey([]byte("a"))
	first := a.pick(time.Now())
	for n := range 2 * freeLoad {
		s := a.pick(time.Now())
		if stays := n < freeLoad; (s == first) != stays {
			t.Errorf("with %d requests in progress at %s: got %s", n, first.Address, s.Address)
		}
		if s == first {
			s.countInFlight(1)
		}
	}
	if n := b.inFlight.Load(); n != freeLoad {
		t.Errorf("the backend counts %d requests in progress, want %d", n, freeLoad)
	}
}

// Requests without a key are divided by the requests in progress.
func TestHashWithoutKey(t *testing.T) {
	b := simulated(t, hashName, equal(4)...)
	var a Attempt
	for range 100 {
		a.Reset(b)
		a.SetKey(nil)
		a.pick(time.Now()).countInFlight(1)
	}
	for _, s := range b.list() {
		if n := s.load(); n < 20 || n > 30 {
			t.Errorf("%s got %d of 100 requests, want about 25", s.Address, n)
		}
	}
}

// Similar keys of all lengths have different hashes.
func TestHashOf(t *testing.T) {
	seen := map[uint64]string{}
	add := func(key string) {
		if other, ok := seen[hashOf([]byte(key))]; ok && other != key {
			t.Errorf("%q and %q have the same hash", key, other)
		}
		seen[hashOf([]byte(key))] = key
	}
	for i := range 100_000 {
		add(fmt.Sprint(i))
		add(fmt.Sprintf("/a/longer/path/%d/x", i))
	}
	for n := range 100 {
		add(string(make([]byte, n)))
	}
}
