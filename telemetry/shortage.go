package telemetry

// Shortage is what the gateway or its host had too little of to serve an exchange.
type Shortage uint8

const (
	ShortConnections Shortage = iota // places for connections to servers, by the limit of descriptors
	ShortDescriptors                 // file descriptors, of the process or the system
	ShortPorts                       // local ports towards a server
	ShortBuffers                     // memory of the kernel for sockets
	ShortMemory                      // memory of the process or its control group
	shortageCount
)

var shortageNames = [shortageCount]string{"connections", "descriptors", "ports", "buffers", "memory"}

func (s Shortage) String() string { return shortageNames[min(s, ShortMemory)] }

// Shed counts an exchange that was refused for a shortage.
func (in *Instruments) Shed(s Shortage) {
	if in != nil && s < shortageCount {
		in.shed[s].Inc()
	}
}
