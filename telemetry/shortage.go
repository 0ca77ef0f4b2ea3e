package telemetry

// Shortage is a resource that the gateway or its host had too little of to serve an exchange.
type Shortage uint8

const (
	ShortConnections Shortage = iota // connections to servers, limited by the file descriptors
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
