package migrate

import (
	"math"
	"strconv"
	"strings"

	"mpgate/internal/nginxconf"
)

// splits translates a proxy_pass whose server is a variable of split_clients; false if it is not,
// or if that cannot be written.
func (c *content) splits(sc *scope, d *nginxconf.Directive, to string) bool {
	before, rest, _ := strings.Cut(to, "$")
	name, after := variableName("$" + rest)
	split := c.t.maps[name]
	if split == nil || split.Name != "split_clients" || before != "" && before != "http://" && before != "https://" || strings.Contains(after, "$") {
		return false
	}
	by, why := template(split.Arg(0), sc)
	if why != "" {
		c.t.say(split, "left out: %s", why)
		return false
	}
	shares := sharesOf(split)
	weights := &table{}
	for i, e := range split.Block {
		url, ok := constant(before+e.Arg(0)+after, sc)
		scheme, rest, cut := strings.Cut(url, "://")
		authority, uri := splitURL(rest)
		if !ok || !cut || authority == "" || uri != "" || scheme != "http" && scheme != "https" || shares == nil {
			return false
		}
		b := &table{}
		c.t.transport(b, sc, scheme == "https", d)
		if !c.pool(b, authority, sc, d, scheme == "https") {
			return false
		}
		backend := c.route.text("backend")
		weight, _ := weights.get(backend).(int) // the same server may stand there twice
		weights.set(backend, weight+shares[i], e)
	}
	c.t.done[split] = true
	c.route.set("backend", weights, d)
	if len(weights.keys) > 1 {
		c.route.set("split_by", by, split)
	}
	return true
}

// sharesOf returns the shares of split_clients as weights: per cent, or hundredths of it if it has
// them. It is nil if they are not valid.
func sharesOf(split *nginxconf.Directive) (weights []int) {
	sum, rest, whole := 0, -1, true
	for i, e := range split.Block {
		if e.Name == "*" {
			rest, weights = i, append(weights, 0)
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSuffix(e.Name, "%"), 64)
		if err != nil || !strings.HasSuffix(e.Name, "%") || f < 0 || f > 100 {
			return nil
		}
		n := int(math.Round(100 * f))
		sum, whole, weights = sum+n, whole && n%100 == 0, append(weights, n)
	}
	if sum > 100_00 || sum == 0 && rest < 0 {
		return nil
	}
	if rest >= 0 {
		weights[rest] = 100_00 - sum
	}
	for i := range weights {
		if whole {
			weights[i] /= 100
		}
	}
	return weights
}
