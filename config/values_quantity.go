package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// bounded are the codecs of quantities, given the tags min and max.
var bounded = map[reflect.Type]func(min, max string) codec{
	reflect.TypeFor[time.Duration](): durations,
	reflect.TypeFor[Percent]():       percents,
	reflect.TypeFor[Rate]():          rates,
}

// durations are the times of at least min.
func durations(min, _ string) codec {
	shortest, err := time.ParseDuration(min)
	if err != nil {
		panic("config: a bound of the declarations: " + err.Error())
	}
	return withPattern(of(func(s, _ string) (time.Duration, string) {
		d, err := time.ParseDuration(s)
		switch {
		case err != nil:
			return 0, `is not a valid duration; write a number and a unit, for example "500ms", "10s" or "2m"`
		case d < shortest:
			return 0, fmt.Sprintf("is too short; must be at least %v", shortest)
		}
		return d, ""
	}, duration), `^[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$|^[+-]?0$`)
}

// duration is d without the zero units of its String: 1m0s is 1m.
func duration(d time.Duration) string {
	t := d.String()
	if strings.HasSuffix(t, "m0s") {
		t = strings.TrimSuffix(t, "0s")
	}
	if strings.HasSuffix(t, "h0m") {
		t = strings.TrimSuffix(t, "0m")
	}
	return t
}

var units = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}}

// sizes are the numbers of bytes from min to max, of any type of integer.
func sizes(min, max string) codec {
	least, ok := parseSize(min)
	most, ok2 := parseSize(max)
	if !ok || !ok2 {
		panic("config: the bounds " + min + " and " + max + " of the declarations are not sizes")
	}
	set := func(v reflect.Value, s, _ string) string {
		n, ok := parseSize(s)
		switch {
		case !ok:
			return `is not a valid size; write a whole number and B, KiB, MiB or GiB, for example "32KiB", or "0"`
		case n < least || n > most:
			return fmt.Sprintf("is out of range; must be from %s to %s", formatSize(least), formatSize(most))
		}
		v.SetInt(n)
		return ""
	}
	text := func(v reflect.Value) string { return formatSize(v.Int()) }
	return codec{form: "string", pattern: `^0$|^\s*[0-9]+\s*([KMG]i)?B$`, set: set, text: text}
}

func parseSize(s string) (int64, bool) {
	if s == "0" {
		return 0, true
	}
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 32)
		return int64(n) * u.bytes, err == nil
	}
	return 0, false
}

func formatSize(n int64) string {
	switch {
	case n == 0:
		return "0"
	case n%(1<<30) == 0:
		return strconv.FormatInt(n>>30, 10) + "GiB"
	case n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + "MiB"
	case n%(1<<10) == 0:
		return strconv.FormatInt(n>>10, 10) + "KiB"
	}
	return strconv.FormatInt(n, 10) + "B"
}

// Percent is a share, from 0 to 100.
type Percent float64

// Ratio is the share from 0 to 1.
func (p Percent) Ratio() float64 { return float64(p) / 100 }

// String is "12.5%".
func (p Percent) String() string { return strconv.FormatFloat(float64(p), 'f', -1, 64) + "%" }

// percents are the shares from min (default: 0%) to max (default: 100%).
func percents(min, max string) codec {
	least, most := Percent(0), Percent(100)
	for _, b := range []struct {
		to   *Percent
		text string
	}{{&least, min}, {&most, max}} {
		if p, ok := parsePercent(b.text); ok {
			*b.to = p
		} else if b.text != "" {
			panic("config: the bound " + b.text + " of the declarations is not a percentage")
		}
	}
	return withPattern(of(func(s, _ string) (Percent, string) {
		p, ok := parsePercent(s)
		switch {
		case !ok:
			return 0, `is not a valid percentage; write a number and %, for example "20%" or "0.5%"`
		case p < least || p > most:
			return 0, fmt.Sprintf("is out of range; must be from %v to %v", least, most)
		}
		return p, ""
	}, Percent.String), `^[0-9]+(\.[0-9]+)?%$`)
}

func parsePercent(s string) (Percent, bool) {
	number, ok := strings.CutSuffix(s, "%")
	whole, fraction, dot := strings.Cut(number, ".")
	if !ok || !allDigits(whole) || dot && !allDigits(fraction) {
		return 0, false
	}
	f, err := strconv.ParseFloat(number, 64)
	return Percent(f), err == nil
}

// Rate is a number of events in a time.
type Rate struct {
	Events int
	Per    time.Duration // a second, a minute or an hour
}

// periods are the times of a rate, as they are written.
var periods = []struct {
	name string
	time time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}}

// maxRate is the largest number of events in a rate.
const maxRate = 1_000_000_000

// String is "30/s".
func (r Rate) String() string {
	for _, p := range periods {
		if r.Per == p.time {
			return strconv.Itoa(r.Events) + "/" + p.name
		}
	}
	return ""
}

// PerSecond is the number of events in a second.
func (r Rate) PerSecond() float64 { return float64(r.Events) / r.Per.Seconds() }

// rates are at least one event in a time.
func rates(_, _ string) codec {
	return withPattern(of(func(s, _ string) (Rate, string) {
		number, unit, _ := strings.Cut(s, "/")
		for _, p := range periods {
			if unit != p.name || !allDigits(number) {
				continue
			}
			n, err := strconv.Atoi(number)
			if err != nil || n < 1 || n > maxRate {
				return Rate{}, fmt.Sprintf("is out of range; must be from 1/%s to %d/%s", unit, maxRate, unit)
			}
			return Rate{Events: n, Per: p.time}, ""
		}
		return Rate{}, `is not a valid rate; write a whole number and /s, /m or /h, for example "30/s"`
	}, Rate.String), `^[0-9]+/[smh]$`)
}

// StatusRange is the status codes from First to Last.
type StatusRange struct{ First, Last int }

// Contains reports whether a status is in the range.
func (r StatusRange) Contains(status int) bool { return r.First <= status && status <= r.Last }

// String is "404" or "502-504".
func (r StatusRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// statusRanges are one status or two with a dash between them.
var statusRanges = withPattern(of(func(s, _ string) (StatusRange, string) {
	first, last, dash := strings.Cut(s, "-")
	if !dash {
		last = first
	}
	var r StatusRange
	for _, b := range []struct {
		to   *int
		text string
	}{{&r.First, first}, {&r.Last, last}} {
		n, err := strconv.Atoi(b.text)
		if err != nil || len(b.text) != 3 || n < 100 || n > 599 {
			return StatusRange{}, `is not a valid status; must be from 100 to 599, or a range, for example "404" or "502-504"`
		}
		*b.to = n
	}
	if r.First > r.Last {
		return StatusRange{}, fmt.Sprintf("is a range that ends before it begins; write \"%s-%s\"", last, first)
	}
	return r, ""
}, StatusRange.String), `^[1-5][0-9]{2}(-[1-5][0-9]{2})?$`)

// allDigits reports whether s is a decimal number without a sign.
func allDigits(s string) bool { return s != "" && digits(s) == len(s) }
