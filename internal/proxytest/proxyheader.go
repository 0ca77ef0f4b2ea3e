package proxytest

import (
	"bufio"

	"mpgate/proxy/preread"
)

// ReadProxyHeader takes the PROXY header off that a connection begins with, and not a byte more.
func ReadProxyHeader(r *bufio.Reader) (preread.Proxy, error) {
	for size := 1; ; size++ {
		b, err := r.Peek(size)
		if err != nil {
			return preread.Proxy{}, err
		}
		h, n, err := preread.ParseProxy(b)
		if err == preread.ErrMore {
			continue
		}
		if err == nil {
			_, err = r.Discard(n)
		}
		return h, err
	}
}
