//go:build linux

package paths

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"mpgate/bench/figures"
	"mpgate/internal/lab"
)

// Own is a scenario of paths that are described as rate=100,delay=10ms,loss=1%,queue=64KiB: Mbit/s,
// one way, and what may be left out.
func Own(specs []string) (Scenario, error) {
	s := Scenario{Name: "own", About: fmt.Sprintf("%d paths of your own", len(specs)), sides: sides, workloads: workloads}
	for _, spec := range specs {
		p, err := parsePath(spec)
		if err != nil {
			return s, err
		}
		s.Paths = append(s.Paths, p)
	}
	if n := len(s.Paths); n < 1 || n > 8 {
		return s, fmt.Errorf("(got %d of them); want 1 to 8", n)
	}
	return s, nil
}

func parsePath(spec string) (p lab.Path, err error) {
	for _, part := range strings.Split(spec, ",") {
		name, value, _ := strings.Cut(part, "=")
		switch name {
		case "rate":
			var mbit float64
			mbit, err = strconv.ParseFloat(value, 64)
			p.Rate = int64(mbit * lab.Mbit)
		case "delay":
			p.Delay, err = time.ParseDuration(value)
		case "loss":
			p.Loss, err = strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
			p.Loss /= 100
		case "queue":
			var n int64
			n, err = figures.ParseSize(value)
			p.Queue = int(n)
		default:
			err = fmt.Errorf("no such part")
		}
		if err != nil {
			return p, fmt.Errorf("(got %q): %q: %w; want rate=100,delay=10ms,loss=1%%,queue=64KiB", spec, part, err)
		}
	}
	// The loss is compared so that NaN is refused, too.
	if p.Rate < lab.Mbit/10 || p.Rate > 2000*lab.Mbit || p.Delay < 0 || p.Delay > 2*time.Second || !(p.Loss >= 0 && p.Loss <= 0.5) {
		return p, fmt.Errorf("(got %q): want a rate of 0.1 to 2000 Mbit/s, a delay of at most 2s, and a loss of at most 50%%", spec)
	}
	return p, nil
}
