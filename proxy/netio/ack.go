package netio

// Acknowledge sends the acknowledgement of what has come, which the kernel delays by 40 ms if it
// expects a reply to carry it. A peer without TCP_NODELAY sends the rest of its data only then.
// Linux has no such option for MPTCP.
func (c *Conn) Acknowledge() { _ = c.raw.Control(acknowledge) }

// AcknowledgeNext is Acknowledge for what comes next: the first read that waits has the kernel
// acknowledge it at once.
func (c *Conn) AcknowledgeNext() { c.ackNext = true }
