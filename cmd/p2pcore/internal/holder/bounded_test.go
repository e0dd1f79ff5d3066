package holder

import (
	"errors"
	"io"
	"net"
	"testing"
)

func TestBoundedListener(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newBounded(inner, 2)
	defer l.Close()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	dial()
	first := <-accepted
	dial()
	second := <-accepted
	third := dial()
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Fatal("the third connection is served")
	}
	first.Close()
	first.Close() // gives one slot back, not two
	fourth := dial()
	c := <-accepted
	go c.Write([]byte{1})
	if _, err := io.ReadFull(fourth, make([]byte, 1)); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
	fifth := dial()
	if _, err := fifth.Read(make([]byte, 1)); err == nil {
		t.Error("a slot was given back twice")
	}
	second.Close()
	c.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
}
