package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener for connections in memory that have no buffer.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{} // closed by Close, which net/http calls once
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// dial connects and sends a request, of which the rest may never come.
func (p *pipes) dial(t *testing.T, request string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close() })
	p.conns <- theirs
	if _, err := io.WriteString(ours, request); err != nil {
		t.Fatal(err)
	}
	return ours
}

// TestCloseGivesClientsASecond: clients that read nothing, or send nothing more, hold the server no longer than
// closingPatience. An append whose body comes within that time is carried out; one whose body does not is answered.
func TestCloseGivesClientsASecond(t *testing.T) {
	const post = "POST /v1/cores/log/blocks?chunk=%d HTTP/1.1\r\nHost: store\r\nContent-Length: %d\r\n\r\n%s"
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		session := named(t, s, "log", strings.Repeat("x", 100_000))
		defer session.Close()
		listener := newPipes()
		web := s.HTTPServer()
		served := make(chan error)
		go func() { served <- web.Serve(listener) }()
		defer func() {
			web.Close()
			<-served
		}()
		for _, request := range []string{
			"GET /v1/cores/log/blocks?follow=1 HTTP/1.1\r\nHost: store\r\n\r\n",
			"GET /v1/cores/log/bytes HTTP/1.1\r\nHost: store\r\n\r\n",
			"GET /v1/events HTTP/1.1\r\nHost: store\r\n\r\n",
			"GET /v1/openapi.yaml HTTP/1.1\r\nHost: store\r\n\r\n",
			"POST /v1/cores HTTP/1.1\r\nHost: store\r\nContent-Length: 9\r\n\r\n{",
			"POST /v1/cores/log/blocks HTTP/1.1\r\nHost: store\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
		} {
			listener.dial(t, request)
		}
		late := listener.dial(t, fmt.Sprintf(post, 1, 2, "a"))
		never := listener.dial(t, fmt.Sprintf(post, maxBatchBytes, maxBatchBytes+1, strings.Repeat("x", maxBatchBytes)))
		synctest.Wait()

		began := time.Now()
		closed := make(chan time.Duration, 1)
		go func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			closed <- time.Since(began)
		}()
		time.Sleep(closingPatience - time.Millisecond)
		go io.WriteString(late, "b")
		var appended Appended
		if status := readAnswer(t, late, &appended); status != http.StatusOK || appended.Length-appended.Start != 2 {
			t.Errorf("the append whose body came in time: status %d, %+v, want 2 blocks", status, appended)
		}
		var broken Problem
		if status := readAnswer(t, never, &broken); status != http.StatusRequestTimeout || broken.Length == 0 {
			t.Errorf("the append whose body did not come: status %d, %+v, want 408 and the length", status, broken)
		}
		if took := <-closed; took > closingPatience {
			t.Errorf("it took %v, want at most %v", took, closingPatience)
		}
		if got, want := session.Info().Length, uint64(4); got != want {
			t.Errorf("the feed has %d blocks, want %d", got, want)
		}
	})
}

// readAnswer reads an answer and returns its status.
func readAnswer(t *testing.T, c net.Conn, into any) int {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}
