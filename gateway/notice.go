package gateway

// Notice is what a service manager is told of the gateway.
type Notice uint8

const (
	NoticeReady     Notice = iota // every listener accepts; also after a reload, however it went
	NoticeReloading               // the configuration is read anew
	NoticeStopping                // it drains, and will end
)

func (g *Gateway) notify(n Notice) {
	if g.options.Notify != nil {
		g.options.Notify(n)
	}
}
