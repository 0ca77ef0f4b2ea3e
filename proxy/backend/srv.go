package backend

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"mpgate/proxy/resolve"
)

// services are the servers that the SRV records of a name name (RFC 2782).
type services struct {
	resolved[resolve.Service]
	resolver *resolve.Resolver
}

func newServices(name string, r *resolve.Resolver) *services {
	s := &services{resolver: r}
	s.resolved = newResolved(name, s.find)
	return s
}

func (s *services) find(ctx context.Context) found[resolve.Service] {
	list, f := s.resolver.Services(ctx, s.name)
	return found[resolve.Service]{list, f.TTL, f.Err}
}

// ServiceHost returns the host that servers of SRV records are verified by: the name without the
// service and the protocol. The names of the targets come from DNS, which anyone on the way may
// forge (RFC 4985 and RFC 6125 section 6.2.1).
func ServiceHost(name string) string {
	host := strings.TrimSuffix(name, ".")
	for range 2 {
		if label, rest, ok := strings.Cut(host, "."); ok && strings.HasPrefix(label, "_") {
			host = rest
		}
	}
	return host
}

func serviceAddress(s resolve.Service) string {
	return net.JoinHostPort(s.Target, strconv.Itoa(int(s.Port)))
}

func serviceText(s resolve.Service) string {
	return fmt.Sprintf("%s priority %d weight %d", serviceAddress(s), s.Priority, s.Weight)
}

// maxWeight bounds the weights that serviceWeights returns.
const maxWeight = 100

// serviceWeights returns a weight from 1 to maxWeight for each service, in proportion to the other
// services of its priority. A service of weight 0 gets the smallest one: it has "a very small
// chance of being selected" (RFC 2782) next to others, and all of weight 0 have the same.
func serviceWeights(list []resolve.Service) []int {
	heaviest := map[uint16]int{}
	for _, s := range list {
		heaviest[s.Priority] = max(heaviest[s.Priority], int(s.Weight))
	}
	weights := make([]int, len(list))
	for i, s := range list {
		w, most := int(s.Weight), heaviest[s.Priority]
		if most > maxWeight {
			w = (w*maxWeight + most/2) / most
		}
		weights[i] = max(w, 1)
	}
	return weights
}
