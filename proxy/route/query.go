package route

import "mpgate/proxy/target"

// queryCondition wants a parameter of the query. Names and values are decoded as HTML forms are
// encoded, see target.AppendParam. Of several parameters with that name one must have the value.
type queryCondition struct{ expectation }

func newParam(name, value string) (condition, *fault) {
	if name == "" {
		return nil, &fault{"query.", value, "a parameter has a name"}
	}
	return &queryCondition{expectation{name, value}}, nil
}

func (c *queryCondition) look(q *Request) (first []byte, present, equal bool) {
	for rest := q.Query; len(rest) > 0; {
		var name, value []byte
		name, value, rest = target.NextParam(rest)
		if !target.FormEqual(name, c.name) {
			continue
		}
		if !present {
			first, present = value, true
		}
		if target.FormEqual(value, c.value) {
			return first, true, true
		}
	}
	return first, present, false
}

func (c *queryCondition) holds(q *Request) bool {
	_, present, equal := c.look(q)
	return c.met(present, equal)
}

func (c *queryCondition) key() string { return "query " + c.name }

func (c *queryCondition) got(q *Request) string {
	first, present, _ := c.look(q)
	return gotValue(target.AppendForm(nil, first), present)
}

func (c *queryCondition) implies(other condition) bool {
	o, ok := other.(*queryCondition)
	return ok && c.expectation.implies(o.expectation)
}
