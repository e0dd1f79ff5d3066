package api

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	"github.com/p2pcore/p2pcore/node"
)

// Bounds on what one request may cost before its body is understood.
const (
	maxJSONBytes   = 64 << 10         // the bodies that are JSON are a name or a key
	maxHeaderBytes = 64 << 10         // links with many addresses travel in the request line
	headerTimeout  = 10 * time.Second // a client on a socket that sends no request
	idleTimeout    = time.Minute
	answerTimeout  = 5 * time.Minute // of requests that are no streams
)

//go:embed openapi.yaml
var openAPI []byte

// Config is what a Server serves. Store is required.
type Config struct {
	Store *corestore.Store
	// Start makes the node, when a request needs it for the first time; the server closes it. Its context
	// bounds the start. nil: requests that need peers fail.
	Start func(ctx context.Context) (*node.Node, error)
	// Identity returns the peer ID that Start's node has or will have. nil: the route fails.
	Identity func() (peer.ID, error)
	// Waiting, if not nil, says why the node cannot have found its network yet, or "".
	Waiting func() string
	// Bootstrap serves a private network's DHT and relay until its context ends. It calls serving once with
	// the addresses. nil: the route fails.
	Bootstrap func(ctx context.Context, serving func(peer.ID, []string)) error
	// Space, if not nil, tells how many bytes the store takes, and how many more it may.
	Space func() (used, free uint64, err error)
	// Memory, if not nil, tells how many bytes the store's cache and its write buffers hold.
	Memory func() (cache, tables uint64)
	// ReadOnly says why the store was opened read-only, such as feed.ErrNoSpace; nil: it was not.
	ReadOnly error
	// Status is what GET /v1/status says of the process; the node's part is filled in.
	Status Status
	Logger *slog.Logger // nil: silent
}

// Server is the API's handler. It is safe for concurrent use.
type Server struct {
	cfg   Config           // set in New
	mux   *http.ServeMux   // set in New
	group *lifecycle.Group // of requests in memory, and of what requests start
	log   *slog.Logger     // set in New

	ready     atomic.Bool
	starting  chan struct{} // holds a token while nobody starts the node
	appending chan struct{} // holds a token while a batch is appended
	seeds     *seeder       // set in New
	metrics   *metrics      // set in New
	events    *hub          // set in New
	consumers consumers
	started   time.Time // set in New
	rates     rates

	mu      sync.Mutex
	node    *node.Node    // nil until started
	active  int           // requests that are being served
	drained chan struct{} // closed when closing and active is 0
	closing bool
}

// New returns the handler for a store.
func New(cfg Config) *Server {
	s := &Server{
		cfg:       cfg,
		mux:       http.NewServeMux(),
		group:     lifecycle.NewGroup(),
		log:       cfg.Logger,
		starting:  make(chan struct{}, 1),
		appending: make(chan struct{}, 1),
		drained:   make(chan struct{}),
	}
	s.starting <- struct{}{}
	s.seeds = newSeeder(s)
	s.metrics = newMetrics(s)
	s.events = newHub(s)
	s.started = time.Now()
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, r := range s.routes() {
		s.mux.Handle(r.pattern, s.handle(r))
	}
	return s
}

// route is one operation of the API.
type route struct {
	pattern string // as http.ServeMux reads it
	kind    routeKind
	serve   func(w http.ResponseWriter, r *http.Request) error
}

// routeKind says what bounds a request in time.
type routeKind int

const (
	// question is answered within answerTimeout.
	question routeKind = iota
	// flow lasts as long as the client wants, or the server.
	flow
	// intake lasts as long as its body. A server that closes carries out what it takes in, and leaves the body
	// closingPatience to end: a client that lost the answer could not know what has been stored.
	intake
)

// routes is the whole API; openapi.yaml describes the same list.
func (s *Server) routes() []route {
	return []route{
		{"GET /healthz", question, s.getHealth},
		{"GET /readyz", question, s.getReady},
		{"GET /metrics", question, s.getMetrics},
		{"GET /v1/openapi.yaml", question, s.getOpenAPI},
		{"GET /v1/status", question, s.getStatus},
		{"GET /v1/peers", question, s.getPeers},
		{"GET /v1/events", flow, s.getEvents},
		{"GET /v1/identity", question, s.getIdentity},
		{"GET /v1/bootstrap", flow, s.getBootstrap},
		{"GET /v1/verify", flow, s.getVerify},
		{"POST /v1/verify", flow, s.getVerify},
		{"POST /v1/check", question, s.postCheck},
		{"GET /v1/replicate", flow, s.getReplicate},
		{"GET /v1/seed", flow, s.getSeed},
		{"GET /v1/cores", question, s.getCores},
		{"POST /v1/cores", question, s.postCores},
		{"GET /v1/cores/{core}", question, s.getCore},
		{"DELETE /v1/cores/{core}", question, s.deleteCore},
		{"PUT /v1/cores/{core}/name", question, s.putName},
		{"GET /v1/cores/{core}/key", question, s.getKey},
		{"PUT /v1/cores/{core}/key", question, s.putKey},
		{"DELETE /v1/cores/{core}/key", question, s.deleteKey},
		{"POST /v1/cores/{core}/blocks", intake, s.postBlocks},
		{"GET /v1/cores/{core}/blocks", flow, s.getBlocks},
		{"GET /v1/cores/{core}/blocks/{index}", flow, s.getBlock},
		{"GET /v1/cores/{core}/bytes", flow, s.getBytes},
		{"HEAD /v1/cores/{core}/bytes", flow, s.getBytes},
		{"GET /v1/cores/{core}/sync", flow, s.getSync},
		{"GET /v1/cores/{core}/announce", flow, s.getAnnounce},
		{"POST /v1/cores/{core}/clear", question, s.postClear},
		{"POST /v1/cores/{core}/truncate", question, s.postTruncate},
		{"POST /v1/cores/{core}/seed", question, s.postSeed},
		{"DELETE /v1/cores/{core}/seed", question, s.deleteSeed},
	}
}

// ServeHTTP serves one request. While the server closes it answers 503 with the problem "store-locked".
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		writeProblem(w, Errorf(CodeLocked, "the process that holds the store is ending; try again"))
		return
	}
	defer s.leave()
	if h, pattern := s.mux.Handler(r); pattern == "" {
		s.refuse(w, r, h)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// refuse answers a request that is no route's. The mux knows why: h is its answer, in plain text.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, h http.Handler) {
	why := &trackedWriter{ResponseWriter: discard{w.Header()}}
	h.ServeHTTP(why, r)
	p := Errorf(CodeUsage, "the API has no %s; GET /v1/openapi.yaml describes what it has", abbreviate(r.URL.Path)).status(http.StatusNotFound)
	if why.status == http.StatusMethodNotAllowed {
		p = Errorf(CodeUsage, "%s takes %s, not %s", abbreviate(r.URL.Path), w.Header().Get("Allow"), abbreviate(r.Method)).status(why.status)
	}
	s.metrics.request(0, p)
	writeProblem(w, p)
}

// discard keeps the header of an answer and drops its body.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// HTTPServer returns a server for listeners, with this package's bounds. Its requests end when s closes.
func (s *Server) HTTPServer() *http.Server {
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// handle wraps a route: its context ends with the server, its error becomes a problem.
func (s *Server) handle(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case open[r.URL.Path]:
			hurry(w, headerTimeout)
		case route.kind == question:
			hurry(w, answerTimeout)
		}
		r, release := s.bound(w, r, route.kind)
		defer release()
		ctx := r.Context()
		tracked := &trackedWriter{ResponseWriter: w}
		err := checkFlags(r.URL.Query())
		if err == nil {
			err = route.serve(tracked, r)
		}
		s.metrics.request(tracked.status, err)
		m, inMemory := w.(*memoryWriter)
		// net/http takes a late body for the end of the client, who is told how far an append came nevertheless.
		mute := route.kind != intake || inMemory
		switch {
		case err == nil:
		case tracked.started || mute && ctx.Err() != nil && s.group.Context().Err() != nil:
			// The client must not take what it has for the whole.
			if inMemory {
				m.body.CloseWithError(err)
			}
			panic(http.ErrAbortHandler)
		default:
			s.log.Debug("request failed", "route", route.pattern, "err", err)
			writeProblem(w, ProblemOf(err))
		}
	})
}

// trackedWriter knows whether an answer has begun.
type trackedWriter struct {
	http.ResponseWriter
	started bool
	status  int
}

func (w *trackedWriter) WriteHeader(status int) {
	w.started, w.status = true, status
	w.ResponseWriter.WriteHeader(status)
}

func (w *trackedWriter) Write(b []byte) (int, error) {
	w.started = true
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *trackedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Online starts the node, if it does not run, and returns it. It is the server's to close.
func (s *Server) Online(ctx context.Context) (*node.Node, error) { return s.online(ctx) }

// online returns the node and starts it if need be.
func (s *Server) online(ctx context.Context) (*node.Node, error) {
	select {
	case <-s.starting:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { s.starting <- struct{}{} }()
	if n := s.running(); n != nil {
		return n, nil
	}
	if s.isClosing() {
		return nil, errClosing // its node may be gone, and there is no other
	}
	if s.cfg.Start == nil {
		return nil, Errorf(CodeError, "this process takes part in no network")
	}
	n, err := s.cfg.Start(ctx)
	if err != nil {
		return nil, fmt.Errorf("start the node: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.group.Go(func(ctx context.Context) { s.rates.sample(ctx, n) })
	s.node = n // Close waits for the request that we are in, and then takes it
	return n, nil
}

// running returns the node, or nil if none was needed yet.
func (s *Server) running() *node.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(v)
}

// readJSON reads a small body strictly: unknown fields are mistakes, and so is what follows the value. No body is an
// empty value.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxJSONBytes))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return Errorf(CodeUsage, "request body: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Errorf(CodeUsage, "request body: something follows the JSON value")
	}
	return nil
}

// flags are the parameters that are 1 or 0, and 0 if they are missing.
var flags = []string{"brief", "exact", "follow", "forget", "lines", "live", "local", "purge", "removed", "repair", "strict", "whole"}

// checkFlags finds flags that are neither 1 nor 0: purge=true must not be answered as if it were missing.
func checkFlags(q url.Values) error {
	for _, name := range flags {
		if v := q.Get(name); q.Has(name) && v != "1" && v != "0" {
			return Errorf(CodeUsage, "%s=%q: want 1 or 0", name, abbreviate(v))
		}
	}
	return nil
}

func (s *Server) getOpenAPI(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml")
	_, err := w.Write(openAPI)
	return err
}
