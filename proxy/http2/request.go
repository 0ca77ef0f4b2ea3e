package http2

import (
	"crypto/rand"
	"encoding/base64"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
)

var getMethod = []byte("GET")

// request fills r from a block that was decoded into r.Header. ended: nothing follows the block.
// websocket: it is an extended CONNECT (RFC 8441), which r shows as a GET with an Upgrade, as in
// HTTP/1.
func (f *fields) request(r *message.Request, ended bool) (websocket bool, err *message.Error) {
	r.Version = message.HTTP20
	r.Method, r.Target = f.method, f.path
	if f.err != nil {
		return false, f.err
	}
	connect := string(f.method) == "CONNECT"
	switch {
	case f.seen&pseudoMethod == 0:
		return false, errPseudoMissing
	case !validMethod(f.method):
		return false, errMethod
	case len(f.method) > maxMethod:
		return false, errLongMethod
	case f.seen&pseudoProtocol != 0 && !connect:
		return false, errPseudoUnknown
	case connect && f.seen&pseudoProtocol == 0:
		if f.seen&(pseudoScheme|pseudoPath) != 0 {
			return false, errPseudoConnect
		}
		return false, errConnect
	case f.seen&pseudoScheme == 0, f.seen&pseudoPath == 0:
		return false, errPseudoMissing
	case string(f.scheme) != "http" && string(f.scheme) != "https":
		return false, errScheme
	}
	if connect {
		r.Method = getMethod // its target has a path, unlike that of an ordinary CONNECT
	}
	if err := f.setTarget(r); err != nil {
		return false, err
	}
	if r.ContentLength, err = f.bodyLength(ended); err != nil {
		return false, err
	}
	r.TrailersOK = f.trailers
	r.Expect = f.expect && r.ContentLength != 0
	if connect {
		return true, f.webSocket(r)
	}
	return false, nil
}

// bodyLength is the length of the body (RFC 9113 section 8.1.1). A body that is declared empty is
// empty, even if the stream ends in a later frame; trailers after it are dropped.
func (f *fields) bodyLength(ended bool) (int64, *message.Error) {
	switch {
	case ended && f.length > 0:
		return 0, errLengthWrong
	case ended:
		return 0, nil
	case f.lengths == 0:
		return message.Unknown, nil
	}
	return f.length, nil
}

// setTarget finds the one host and path that are matched and forwarded, as in http1.
func (f *fields) setTarget(r *message.Request) *message.Error {
	var err error
	switch {
	case f.seen&pseudoAuthority != 0:
		if r.Host, r.Port, err = target.Host(f.authority, &r.Scratch); err != nil {
			return errHost
		}
		if len(f.host) > 0 { // an empty one names no host
			host, port, err := target.Host(f.host, &r.Scratch)
			if err != nil {
				return errHost
			}
			if !target.SameAuthority(string(f.scheme), host, port, r.Host, r.Port) {
				return errHostMismatch
			}
		}
	case f.hosts > 0:
		if r.Host, r.Port, err = target.Host(f.host, &r.Scratch); err != nil {
			return errHost
		}
	default:
		return errHostMissing
	}
	if len(f.path) == 0 || f.path[0] != '/' && f.path[0] != '*' {
		return errTarget
	}
	parts, err := target.Split(r.Method, f.path)
	if err != nil {
		return errTarget
	}
	if parts.Form == target.Asterisk {
		r.Path = parts.Path
		return nil
	}
	var flags target.Flags
	if r.Path, flags, err = target.Path(parts.Path, &r.Scratch); err != nil {
		return errTarget
	}
	r.EncodedSlash = flags&target.EncodedSlash != 0
	r.Ambiguous = flags&^target.RepeatedSlash != 0
	if flags&target.RepeatedSlash != 0 {
		r.RawPath = parts.Path
	}
	if parts.Query == nil {
		return nil
	}
	r.HasQuery = true
	if r.Query, err = target.Query(parts.Query, &r.Scratch); err != nil {
		return errTarget
	}
	return nil
}

var webSocketName = []byte("websocket")

// webSocket makes the GET of an extended CONNECT. A server of HTTP/1 needs a key; mpgate checks the
// answer to it.
func (f *fields) webSocket(r *message.Request) *message.Error {
	switch {
	case !message.EqualFold(f.protocol, "websocket"):
		return errProtocol
	case r.ContentLength == 0:
		return errLengthWrong // the stream ends with its head
	}
	r.Upgrade, r.ContentLength, r.Expect = webSocketName, 0, false
	r.Header.Del(message.SecWebSocketKey)
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	var text [24]byte
	base64.StdEncoding.Encode(text[:], key[:])
	r.Header.Add(message.SecWebSocketKey, text[:])
	return nil
}
