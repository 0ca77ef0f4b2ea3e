package proxy

// Draining reports whether Shutdown or Drain has begun.
func (p *Proxy) Draining() bool { return p.draining.Load() }
