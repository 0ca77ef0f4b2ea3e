package http2

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

func TestServerAnswersTheOracle(t *testing.T) {
	f := serve(t, ServerOptions{}, echo)
	client := oracle(t)
	req, err := http.NewRequest("POST", "http://"+f.addr+"/a/./b?q=1", io.MultiReader(strings.NewReader("hello "), strings.NewReader("there")))
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-Mine": {"1"}}
	req.Header.Set("Cookie", "a=1; b=2")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if string(body) != "hello there" || resp.Header.Get("X-Path") != "/a/b" || resp.Header.Get("X-Method") != "POST" {
		t.Errorf("got %q, %v", body, resp.Header)
	}
	if resp.Trailer.Get("X-Sum") != "11" || resp.Trailer.Get("X-Mine") != "1" {
		t.Errorf("trailers %v", resp.Trailer)
	}
}

func TestServerCarriesLargeBodiesBothWays(t *testing.T) {
	f := serve(t, ServerOptions{}, echo)
	client := oracle(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			want := bytes.Repeat([]byte(fmt.Sprintf("%08d", i)), 1<<18) // 2 MiB
			resp, err := client.Post("http://"+f.addr+"/", "text/plain", bytes.NewReader(want))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("stream %d: %d bytes of %d, equal %v, error %v", i, len(got), len(want), bytes.Equal(got, want), err)
			}
		})
	}
	wg.Wait()
}
