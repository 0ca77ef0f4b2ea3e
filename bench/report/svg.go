package report

import (
	"fmt"
	"html"
	"math"
	"strings"

	"mpgate/bench/figures"
	"mpgate/bench/result"
)

// svg collects elements; all coordinates are those of its viewBox. Colours are classes, so that the
// page's style decides on them.
type svg struct {
	b             strings.Builder
	width, height float64
}

func (s *svg) text(x, y float64, class, anchor, text string) {
	fmt.Fprintf(&s.b, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`, x, y, class, anchor, html.EscapeString(text))
}

func (s *svg) stroke(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&s.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`, x1, y1, x2, y2, class)
}

func (s *svg) rect(x, y, w, h float64, class string) {
	fmt.Fprintf(&s.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2" class="%s"/>`, x, y, w, h, class)
}

func (s *svg) done(title string) string {
	return fmt.Sprintf(`<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="%s" xmlns="http://www.w3.org/2000/svg"><title>%s</title>%s</svg>`,
		s.width, s.height, html.EscapeString(title), html.EscapeString(title), s.b.String())
}

// bar is one of a chart: its value, and how far the rounds reached.
type bar struct {
	label    string
	spread   figures.Spread
	value    string
	standout bool
}

// bars draws horizontal bars from zero, each with a whisker from the smallest to the largest round.
func bars(title string, list []bar) string {
	const (
		width      = 760.0
		row, thick = 30.0, 16.0
		letter     = 8.0 // the widest that the letters of a value or a label are
	)
	most, left, right := 0.0, 120.0, 110.0
	for _, b := range list {
		most = max(most, b.spread.Max)
		left = max(left, letter*float64(len(b.label))+16)
		right = max(right, letter*float64(len(b.value))+16)
	}
	if most <= 0 {
		return ""
	}
	s := &svg{width: width, height: float64(len(list))*row + 8}
	scale := (width - left - right) / most
	for i, b := range list {
		y := float64(i)*row + 4
		middle := y + row/2
		s.text(left-10, middle+4.5, "label", "end", b.label)
		if b.spread.N == 0 {
			s.text(left+2, middle+4.5, "muted", "start", "not measured")
			continue
		}
		class := "bar"
		if b.standout {
			class = "bar own"
		}
		s.rect(left, middle-thick/2, max(b.spread.Median*scale, 1), thick, class)
		if b.spread.Max > b.spread.Min {
			lo, hi := left+b.spread.Min*scale, left+b.spread.Max*scale
			s.stroke(lo, middle, hi, middle, "whisker")
			s.stroke(lo, middle-4, lo, middle+4, "whisker")
			s.stroke(hi, middle-4, hi, middle+4, "whisker")
		}
		s.text(left+max(b.spread.Median, b.spread.Max)*scale+8, middle+4.5, "value", "start", b.value)
	}
	s.stroke(left, 0, left, s.height, "axis")
	return s.done(title)
}

// caseChart is CPU time a request for each proxy of a case.
func caseChart(rep *result.Report, c *result.Case) string {
	var list []bar
	for i := range c.Entries {
		e := &c.Entries[i]
		cpu := e.CPU()
		list = append(list, bar{e.Proxy, cpu, figures.Micros(cpu.Median) + " µs", e.Proxy == baselineOf(rep, c)})
	}
	return bars("CPU time a request: "+c.Name(), list)
}

// curves draws latency against the percentile: how long the slowest 1 in 100 or 1 in 1000 take.
func curves(title string, series []line) string {
	const (
		width, height            = 760.0, 320.0
		left, right, top, bottom = 72.0, 150.0, 14.0, 40.0
	)
	lo, hi := bounds(series)
	if hi <= 0 {
		return ""
	}
	s := &svg{width: width, height: height}
	// Both axes are logarithmic: the second in the share of requests that are slower.
	x := func(p float64) float64 {
		return left + (width-left-right)*min(-math.Log10(max(1-p/100, 1e-4)), 4)/4
	}
	y := func(us float64) float64 {
		return height - bottom - (height-top-bottom)*(math.Log10(max(us, lo))-math.Log10(lo))/(math.Log10(hi)-math.Log10(lo))
	}
	for us := lo; us <= hi; us *= 10 {
		s.stroke(left, y(us), width-right, y(us), "grid")
		s.text(left-8, y(us)+4, "tick", "end", fmt.Sprintf("%g ms", us/1000))
	}
	for _, p := range []float64{0, 90, 99, 99.9, 99.99} {
		s.stroke(x(p), top, x(p), height-bottom, "grid")
		s.text(x(p), height-bottom+18, "tick", "middle", fmt.Sprintf("p%g", p))
	}
	s.text((left+width-right)/2, height-4, "muted", "middle", "percentile")
	s.lines(series, x, y, width-right)
	return s.done(title)
}

// lines draws each line in its colour, with its name beside its end.
func (s *svg) lines(series []line, x, y func(float64) float64, right float64) {
	for i, one := range series {
		var points strings.Builder
		for _, pt := range one.points {
			fmt.Fprintf(&points, "%.1f,%.1f ", x(pt[0]), y(pt[1]))
		}
		fmt.Fprintf(&s.b, `<polyline points="%s" class="line s%d"/>`, strings.TrimSpace(points.String()), i%6)
	}
	for i, at := range labelPositions(series, y) {
		s.rect(right+8, at-5, 10, 10, fmt.Sprintf("fill s%d", i%6))
		s.text(right+24, at+4.5, "label", "start", series[i].name)
	}
}

type line struct {
	name   string
	points [][2]float64
}

// latencySeries takes the round with the median p99 of each proxy: curves of several rounds have no
// honest mean.
func latencySeries(c *result.Case) []line {
	var all []line
	for i := range c.Entries {
		e := &c.Entries[i]
		var rounds []*result.Round
		for j := range e.Rounds {
			if r := &e.Rounds[j]; r.Invalid == "" {
				rounds = append(rounds, r)
			}
		}
		if best := middle(rounds, e.LatencyOf(func(l result.Latency) int64 { return l.P99 }).Median); best != nil {
			all = append(all, line{e.Proxy, best.Latency.Curve})
		}
	}
	return all
}

// middle is the round with a curve whose p99 is nearest to p99.
func middle(rounds []*result.Round, p99 float64) (best *result.Round) {
	distance := func(r *result.Round) float64 { return math.Abs(float64(r.Latency.P99) - p99) }
	for _, r := range rounds {
		if len(r.Latency.Curve) > 0 && (best == nil || distance(r) < distance(best)) {
			best = r
		}
	}
	return best
}

// bounds gives whole decades around all points, in microseconds.
func bounds(series []line) (lo, hi float64) {
	for _, s := range series {
		for _, p := range s.points {
			if p[1] <= 0 {
				continue
			}
			if lo == 0 || p[1] < lo {
				lo = p[1]
			}
			hi = max(hi, p[1])
		}
	}
	if hi <= 0 {
		return 0, 0
	}
	lo, hi = math.Pow(10, math.Floor(math.Log10(lo))), math.Pow(10, math.Ceil(math.Log10(hi)))
	if lo == hi {
		hi *= 10
	}
	return lo, hi
}

// labelPositions puts each name beside the end of its line, and moves those apart that would cover
// each other.
func labelPositions(series []line, y func(float64) float64) []float64 {
	const apart = 18.0
	at := make([]float64, len(series))
	order := make([]int, len(series))
	for i, s := range series {
		at[i] = y(s.points[len(s.points)-1][1])
		order[i] = i
	}
	for i := 1; i < len(order); i++ { // insertion sort: there are five
		for j := i; j > 0 && at[order[j]] < at[order[j-1]]; j-- {
			order[j], order[j-1] = order[j-1], order[j]
		}
	}
	for i := 1; i < len(order); i++ {
		at[order[i]] = max(at[order[i]], at[order[i-1]]+apart)
	}
	return at
}
