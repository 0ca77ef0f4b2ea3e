package http1

import (
	"bytes"
	"io"
	"testing"
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

var testLimits = Limits{HeaderBytes: 32 << 10, HeaderFields: 100, HeaderTime: 20 * time.Second, IdleTime: 20 * time.Second}

// What Firefox sends, with 12 fields, and what wrk sends.
const (
	browserRequest = "GET /assets/app/main.5f3a91c2.js?v=20240117 HTTP/1.1\r\n" +
		"Host: www.example.org\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
		"Accept-Language: en-US,en;q=0.5\r\n" +
		"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
		"Referer: https://www.example.org/assets/index.html\r\n" +
		"Connection: keep-alive\r\n" +
		"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes; _ga=GA1.2.1234567890.1234567890\r\n" +
		"Sec-Fetch-Dest: script\r\n" +
		"Sec-Fetch-Mode: no-cors\r\n" +
		"Sec-Fetch-Site: same-origin\r\n" +
		"If-None-Match: \"5f3a91c2-1f2e\"\r\n\r\n"
	wrkRequest   = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
	nginxSuccess = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 24 Nov 2025 06:17:00 GMT\r\nContent-Type: text/html\r\n" +
		"Content-Length: 1024\r\nLast-Modified: Mon, 24 Nov 2025 05:00:00 GMT\r\nConnection: keep-alive\r\n" +
		"ETag: \"6740f0c0-400\"\r\nAccept-Ranges: bytes\r\n\r\n"
)

func benchmarkParseRequest(b *testing.B, head string) {
	raw := []byte(head)
	var r message.Request
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		r.Reset()
		if _, err := ParseRequest(raw, &r, testLimits); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseRequest(b *testing.B) {
	b.Run("browser", func(b *testing.B) { benchmarkParseRequest(b, browserRequest) })
	b.Run("wrk", func(b *testing.B) { benchmarkParseRequest(b, wrkRequest) })
}

func BenchmarkParseResponse(b *testing.B) {
	raw := []byte(nginxSuccess)
	var r message.Response
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		r.Reset()
		if _, err := ParseResponse(raw, &r, false, testLimits); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendRequest(b *testing.B) {
	var r message.Request
	if _, err := ParseRequest([]byte(browserRequest), &r, testLimits); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendRequest(buf[:0], &r)
	}
}

func BenchmarkAppendResponse(b *testing.B) {
	var r message.Response
	if _, err := ParseResponse([]byte(nginxSuccess), &r, false, testLimits); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		buf = appendResponse(buf[:0], &r, message.HTTP11, byLength, false)
	}
}

// One byte in a chunk of its own: the most work that a client can make of each of its bytes.
func BenchmarkTinyChunks(b *testing.B) {
	front, client := unixPair(b)
	back, origin := unixPair(b)
	go func() {
		chunks := bytes.Repeat([]byte("1\r\nx\r\n"), 1<<10)
		for {
			if _, err := client.Write(chunks); err != nil {
				return
			}
		}
	}()
	go func() { _, _ = io.Copy(io.Discard, origin) }()
	defer origin.Close()
	defer client.Close()
	var in netio.Buffer
	defer in.Release()
	body := bodyReader{s: front, in: &in, limits: &testLimits}
	body.reset(chunked, message.Unknown, &message.Header{})
	out := bodyWriter{s: back}
	out.reset(chunked, message.Unknown)
	b.ReportAllocs()
	b.SetBytes(6) // as they come
	for b.Loop() {
		p, err := body.Next(true)
		if err == nil {
			err = out.WriteBody(p)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
