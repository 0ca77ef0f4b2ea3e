package proxy

import (
	"mpgate/proxy/split"
	"mpgate/proxy/template"
)

// Split is the action that has one of several actions serve, chosen by weight.
type Split struct {
	Choices []Choice
	Weights *split.Split // of the choices, by index
	// By is the text by which a client is assigned to a choice: the same text always leads to the
	// same one. If it is empty the choice is random.
	By template.Template
}

// Choice is one of the actions of a Split.
type Choice struct {
	Action Action
	Lease  *Lease // replaces that of the route
}

func (s *Split) serve(x *exchange) {
	c := &s.Choices[s.choose(x)]
	x.holdLease(c.Lease)
	c.Action.serve(x)
}

func (s *Split) choose(x *exchange) (index int) {
	x.scratch = x.filter.Append(x.scratch[:0], &s.By)
	return s.Weights.Choose(x.scratch)
}

// explain returns the choice for a request and the text by which it was made; -1 if it is random.
func (s *Split) explain(x *exchange) (index int, key string) {
	index = s.choose(x)
	if len(x.scratch) == 0 {
		return -1, ""
	}
	return index, string(x.scratch)
}
