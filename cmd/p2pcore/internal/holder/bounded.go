package holder

import (
	"net"
	"sync"
)

// maxConns bounds the connections that a listener of the API, of metrics or of the store's socket has at a time. Each
// costs some 50 KB and a file descriptor, of which the embedded store and the node need some hundreds themselves; a
// page has 6, and a command 2.
const maxConns = 1024

// bounded is a listener that closes what comes while max connections live.
type bounded struct {
	net.Listener
	slots chan struct{} // holds a token for each connection
}

func newBounded(l net.Listener, max int) *bounded {
	return &bounded{Listener: l, slots: make(chan struct{}, max)}
}

func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case b.slots <- struct{}{}:
			return &counted{Conn: c, release: sync.OnceFunc(func() { <-b.slots })}, nil
		default:
			c.Close() // the client sees that it is not served, at once
		}
	}
}

// counted gives its slot back when it is closed.
type counted struct {
	net.Conn
	release func()
}

func (c *counted) Close() error {
	defer c.release()
	return c.Conn.Close()
}
