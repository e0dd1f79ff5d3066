package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// What requests are left when the server closes. Clients on the same machine need milliseconds for either; those that
// are slower, or do not read at all, must not keep the store.
const (
	// closingPatience is how long bodies may still come, and how long answers that are no longer made may be read.
	closingPatience = time.Second
	// nodePatience is how long the node waits for requests, so that peers hear of what these append. Then it closes
	// beside them, for its peers may be slow as well.
	nodePatience = 250 * time.Millisecond
)

// Close refuses new requests, ends those that are being served, waits for them, and closes the node if one was
// started. It may be called again. The store stays open.
//
// Requests over a connection end within a second of that, whatever their clients do; an append whose body has come is
// carried out and answered, however long the store takes. The node closes when the requests have ended, and beside them
// after 250 ms.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		if s.active == 0 {
			close(s.drained)
		}
	}
	s.mu.Unlock()
	s.group.Close()
	timer := time.NewTimer(nodePatience)
	defer timer.Stop()
	select {
	case <-s.drained:
	case <-timer.C:
	}
	err := s.closeNode()
	<-s.drained
	return errors.Join(err, s.closeNode()) // a request may have been starting it
}

// closeNode ends what seeds, and the node if there is one.
func (s *Server) closeNode() error {
	s.seeds.close()
	s.mu.Lock()
	n := s.node
	s.node = nil
	s.mu.Unlock()
	if n == nil {
		return nil
	}
	return n.Close()
}

// Ended is closed when the server closes and the last request has ended. Its answer may still be on its way to the client.
func (s *Server) Ended() <-chan struct{} { return s.drained }

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.active++
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	if s.closing && s.active == 0 {
		close(s.drained)
	}
}

// bound returns r with the bounds in time that its kind has, until release is called.
func (s *Server) bound(w http.ResponseWriter, r *http.Request, kind routeKind) (bounded *http.Request, release func()) {
	cancelTimeout := func() {}
	ctx := r.Context()
	if kind == question {
		ctx, cancelTimeout = context.WithTimeout(ctx, answerTimeout)
	}
	ctx, cancel := context.WithCancel(ctx)
	r = r.WithContext(ctx)
	over := func() {
		cancel()
		expire(w)
	}
	if kind == intake {
		body := &intakeBody{ReadCloser: r.Body, w: w}
		r.Body, over = body, body.hurry
	}
	ended := make(chan struct{})
	watched := s.group.Go(func(closing context.Context) {
		defer close(ended)
		select {
		case <-closing.Done():
			over()
		case <-ctx.Done():
		}
	})
	if !watched {
		close(ended)
		over()
	}
	return r, func() {
		cancel()
		<-ended // nothing may touch w from now on
		cancelTimeout()
	}
}

// expire bounds how long the body of a request may still come, and its answer be read, as the server closes.
func expire(w http.ResponseWriter) {
	hurry(w, closingPatience)
	// In memory there is no deadline, and no need of one: the pipe is closed.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(closingPatience))
}

// intakeBody is the body of an intake. Once the body has ended, net/http would take a deadline for the end of the client, and
// what has come would not be carried out.
type intakeBody struct {
	io.ReadCloser
	w http.ResponseWriter

	mu      sync.Mutex
	ended   bool // under mu
	hurried bool // under mu
}

// hurry leaves the body closingPatience.
func (b *intakeBody) hurry() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hurried = true; !b.ended {
		expire(b.w)
	}
}

func (b *intakeBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end(errors.Is(err, io.EOF))
	}
	return n, err
}

// end takes the deadlines back, that of a broken body for the answer alone: this fits into net/http's buffer, so that the
// handler does not wait for the client.
func (b *intakeBody) end(whole bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	if !b.hurried {
		return
	}
	c := http.NewResponseController(b.w)
	_ = c.SetWriteDeadline(time.Time{})
	if whole {
		_ = c.SetReadDeadline(time.Time{})
	}
}
