package split

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func mustNew(t testing.TB, choices ...Choice) *Split {
	t.Helper()
	s, err := New(choices)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const keys = 200_000

// shares counts the choices for many keys: addresses as text, which differ in few bytes.
func shares(s *Split, n int, key func(i int) []byte) []float64 {
	count := make([]float64, n)
	for i := range keys {
		count[s.Choose(key(i))] += 1.0 / keys
	}
	return count
}

func address(i int) []byte { return fmt.Appendf(nil, "192.0.%d.%d", i/250, i%250) }

func TestShares(t *testing.T) {
	number := func(i int) []byte { return fmt.Append(nil, i) }
	none := func(int) []byte { return nil }
	for _, choices := range [][]Choice{
		{{"stable", 95}, {"canary", 5}},
		{{"stable", 99.9}, {"canary", 0.1}},
		{{"a", 1}, {"b", 1}, {"c", 2}},
		{{"a", 1}, {"never", 0}, {"c", 3}},
		{{"only", 1}},
		{{"off", 0}, {"on", 7}},
	} {
		s := mustNew(t, choices...)
		sum := 0.0
		for _, c := range choices {
			sum += c.Weight
		}
		for name, key := range map[string]func(int) []byte{"addresses": address, "numbers": number, "none": none} {
			for i, got := range shares(s, len(choices), key) {
				want := choices[i].Weight / sum
				// Five standard deviations of a binomial distribution.
				if tolerance := 5*math.Sqrt(want*(1-want)/keys) + 1e-9; math.Abs(got-want) > tolerance {
					t.Errorf("%v by %s: %s gets %.5f, want %.5f ± %.5f", choices, name, choices[i].Name, got, want, tolerance)
				}
			}
		}
	}
}

// When the canary's share grows, keys move to it only, and no more than have to.
func TestKeysMoveToTheCanaryOnly(t *testing.T) {
	before := mustNew(t, Choice{"stable", 95}, Choice{"canary", 5})
	for _, percent := range []float64{6, 10, 50, 100} {
		after := mustNew(t, Choice{"stable", 100 - percent}, Choice{"canary", percent})
		moved := 0
		for i := range keys {
			was, is := before.Choose(address(i)), after.Choose(address(i))
			if was != is {
				moved++
				if is != 1 {
					t.Fatalf("at %v %%, %s moved from the canary", percent, address(i))
				}
			}
		}
		want := (percent - 5) / 100
		if got := float64(moved) / keys; math.Abs(got-want) > 0.005 {
			t.Errorf("at %v %%, %.4f of the keys moved, want %.4f", percent, got, want)
		}
	}
}

// The choice does not depend on the order, on the other shares' scale, or on the process.
func TestChoiceIsStable(t *testing.T) {
	choices := []Choice{{"a", 1}, {"b", 2}, {"c", 3}}
	first := mustNew(t, choices...)
	second := mustNew(t, Choice{"c", 30}, Choice{"a", 10}, Choice{"gone", 0}, Choice{"b", 20})
	names := []string{"c", "a", "gone", "b"}
	for i := range 10_000 {
		if a, b := choices[first.Choose(address(i))].Name, names[second.Choose(address(i))]; a != b {
			t.Fatalf("%s: %s, then %s", address(i), a, b)
		}
	}
	var got string
	for i := range 40 {
		got += choices[first.Choose(address(i))].Name
	}
	if want := "bbbabacccbcccbacacccccacbbcacbbcbbaacbcb"; got != want {
		t.Errorf("the choices for the same keys changed: got %q, want %q", got, want)
	}
}

func TestRefused(t *testing.T) {
	for want, choices := range map[string][]Choice{
		"no choice has a weight above 0":                        nil,
		`"a" is listed twice`:                                   {{"a", 1}, {"a", 2}},
		`the weight of "a" is not a number from 0 on (got -1)`:  {{"a", -1}},
		`the weight of "b" is not a number from 0 on (got NaN)`: {{"a", 1}, {"b", math.NaN()}},
		"the sum of the weights is not finite":                  {{"a", math.MaxFloat64}, {"b", math.MaxFloat64}},
	} {
		if _, err := New(choices); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := New([]Choice{{"a", 0}}); err == nil {
		t.Error("no weight at all")
	}
}

func TestRandomEnds(t *testing.T) {
	s := mustNew(t, Choice{"a", 1}, Choice{"b", 3})
	for at, want := range map[float64]int{0: 1, 2.9: 1, 3: 0, 3.9: 0, 4: 1} {
		if got := s.random(at); got != want {
			t.Errorf("at %v: got %d, want %d", at, got, want)
		}
	}
}

func TestChooseAllocatesNothing(t *testing.T) {
	s := mustNew(t, Choice{"stable", 95}, Choice{"canary", 5})
	key := address(1)
	if n := testing.AllocsPerRun(100, func() { s.Choose(key); s.Choose(nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkChoose(b *testing.B) {
	s := mustNew(b, Choice{"stable", 95}, Choice{"canary", 5})
	key := address(rand.IntN(1000))
	for b.Loop() {
		s.Choose(key)
	}
}
