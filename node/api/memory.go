package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// Transport returns a RoundTripper that calls the handler in memory. Bodies stream in both directions: a
// response is returned with its header, and its body waits for its reader. Requests end when the
// server closes.
func (s *Server) Transport() http.RoundTripper { return memory{s} }

type memory struct{ s *Server }

func (m memory) RoundTrip(req *http.Request) (*http.Response, error) {
	pr, pw := io.Pipe()
	w := &memoryWriter{header: make(http.Header), body: pw, started: make(chan struct{})}
	ok := m.s.group.Go(func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		// When whoever asked gives up, or the server closes, the handler must not be left
		// writing to nobody. After a proper end this finds the pipe closed.
		m.s.group.Go(func(context.Context) {
			select {
			case <-req.Context().Done():
				cancel()
			case <-ctx.Done():
			}
			pw.CloseWithError(io.ErrUnexpectedEOF)
		})
		r := req.Clone(ctx)
		r.RequestURI = req.URL.RequestURI()
		if r.Body == nil {
			r.Body = http.NoBody
		}
		err := serve(m.s, w, r)
		w.end(err)
	})
	if !ok {
		return nil, errClosing
	}
	select {
	case <-w.started:
	case <-req.Context().Done():
		pr.CloseWithError(req.Context().Err())
		return nil, req.Context().Err()
	}
	if w.failed != nil {
		return nil, w.failed
	}
	return &http.Response{
		Status:        http.StatusText(w.status),
		StatusCode:    w.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        w.sent,
		Body:          pr,
		ContentLength: -1,
		Request:       req,
	}, nil
}

// serve calls the handler and returns how the body ends: nil for a proper end.
func serve(h http.Handler, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = io.ErrUnexpectedEOF
		default:
			panic(p) // a bug of ours
		}
	}()
	h.ServeHTTP(w, r)
	return nil
}

// errClosing is the error of a request to a server that is going away.
var errClosing = errors.New("api: server is closing")

// memoryWriter is the ResponseWriter of one request in memory.
type memoryWriter struct {
	header http.Header
	body   *io.PipeWriter

	once    sync.Once
	started chan struct{} // closed when the fields below are set
	status  int
	sent    http.Header
	failed  error // the handler gave up before the header
}

func (w *memoryWriter) Header() http.Header { return w.header }

func (w *memoryWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.started)
	})
}

func (w *memoryWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// end closes the body as the handler has ended.
func (w *memoryWriter) end(err error) {
	w.once.Do(func() {
		w.status, w.sent, w.failed = http.StatusOK, w.header.Clone(), err
		close(w.started)
	})
	w.body.CloseWithError(err)
}

// Flush makes the header visible; bytes are not held back.
func (w *memoryWriter) Flush() { w.WriteHeader(http.StatusOK) }
