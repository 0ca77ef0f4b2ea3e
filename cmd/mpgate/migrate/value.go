package migrate

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

var timePart = regexp.MustCompile(`^(\d{1,9})(ms|s|m|h|d|w|M|y|)`)

// duration translates a time of nginx, such as 60, 60s or 1h30m.
func duration(s string) (string, bool) {
	units := map[string]time.Duration{"ms": time.Millisecond, "": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour,
		"d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "M": 30 * 24 * time.Hour, "y": 365 * 24 * time.Hour}
	var sum time.Duration
	if s == "" {
		return "", false
	}
	for s != "" {
		m := timePart.FindStringSubmatch(s)
		if m == nil {
			return "", false
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil || n > int64(20*365*24*time.Hour/units[m[2]]) {
			return "", false
		}
		sum += time.Duration(n) * units[m[2]]
		s = s[len(m[0]):]
	}
	return shortDuration(sum), true
}

// shortDuration writes a duration with the largest unit that divides it.
func shortDuration(d time.Duration) string {
	for _, u := range []struct {
		name string
		d    time.Duration
	}{{"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if d%u.d == 0 && (d >= u.d && (u.name != "m" || d > time.Minute) || u.name == "s") {
			return strconv.FormatInt(int64(d/u.d), 10) + u.name
		}
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

var sizePart = regexp.MustCompile(`^(\d{1,12})([kKmMgG]?)$`)

// size translates a size of nginx, such as 8k or 10m.
func size(s string) (string, bool) {
	m := sizePart.FindStringSubmatch(s)
	if m == nil {
		return "", false
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || n == 0 {
		return "0", err == nil
	}
	units := []string{"B", "KiB", "MiB", "GiB"}
	u := strings.Index("kmg", strings.ToLower(m[2])) + 1
	if m[2] == "" {
		u = 0
	}
	for ; n%1024 == 0 && u < 3; u++ {
		n /= 1024
	}
	return strconv.FormatInt(n, 10) + units[u], true
}

// matchesAll reports whether an expression matches every path.
func matchesAll(expr string) bool {
	switch expr {
	case "^", "^(.*)$", "^(.*)", "(.*)", "^.*$", "^/(.*)$", "^/(.*)", ".*", "^.*", "/(.*)":
		return true
	}
	return false
}

// seconds translates a time of nginx into a number of seconds.
func seconds(s string) (string, bool) {
	text, ok := duration(s)
	if !ok {
		return "", false
	}
	d, err := time.ParseDuration(text)
	return strconv.FormatInt(int64(d/time.Second), 10), err == nil
}
