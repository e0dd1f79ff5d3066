package api

import (
	"context"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node"
)

const (
	// countInterval is how long a count of all stored feeds is good: it reads the store's whole index.
	countInterval = 15 * time.Second
	scrapeTimeout = 10 * time.Second
)

// metrics is what GET /metrics tells. No label has values that a peer or a feed could choose.
type metrics struct {
	s        *Server
	registry *prometheus.Registry

	appends    prometheus.Histogram
	getLocal   prometheus.Observer
	getPeer    prometheus.Observer
	reclaimed  prometheus.Counter
	requests   *prometheus.CounterVec // by the class of the status
	eventsLost prometheus.Counter

	mu      sync.Mutex
	stored  int       // under mu: feeds of the store
	counted time.Time // under mu
}

// The buckets of durations reach from what memory takes to what a slow peer does.
var secondsBuckets = []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 10, 60}

// heapLive tells the memory that is in use from what has only not been collected yet.
var heapLive = collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/heap/live:bytes$`)}

func newMetrics(s *Server) *metrics {
	m := &metrics{s: s, registry: prometheus.NewRegistry()}
	m.appends = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "p2pcore_append_seconds", Help: "How long appends take, to stable storage.", Buckets: secondsBuckets,
	})
	gets := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "p2pcore_get_seconds", Help: "How long a block takes to be read from the store (local), or to come from a peer.", Buckets: secondsBuckets,
	}, []string{"source"})
	m.getLocal, m.getPeer = gets.WithLabelValues("local"), gets.WithLabelValues("peer")
	m.reclaimed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "p2pcore_gc_reclaimed_bytes_total", Help: "Bytes of blocks given back by clear, truncate and purge.",
	})
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "p2pcore_api_requests_total", Help: "Requests to the API, by the class of their status.",
	}, []string{"status"})
	m.eventsLost = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "p2pcore_api_events_lost_total", Help: "Events that a client of /v1/events was too slow for.",
	})
	m.registry.MustRegister(m.appends, gets, m.reclaimed, m.requests, m.eventsLost, m,
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(heapLive)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// request counts one that has been answered.
func (m *metrics) request(status int, err error) {
	class := "2xx"
	switch {
	case err != nil && status == 0:
		status = ProblemOf(err).Status
	case err != nil:
		class = "broken"
	}
	switch {
	case status >= 500:
		class = "5xx"
	case status >= 400:
		class = "4xx"
	case status >= 300:
		class = "3xx"
	}
	m.requests.WithLabelValues(class).Inc()
}

// Registerer is where GET /metrics gathers from; the node's own metrics go there too.
func (s *Server) Registerer() prometheus.Registerer { return s.metrics.registry }

func (s *Server) getMetrics(w http.ResponseWriter, r *http.Request) error {
	promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(w, r)
	return nil
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("p2pcore_"+name, help, labels, nil)
}

var (
	descBuild       = describe("build_info", "Always 1.", "version")
	descReady       = describe("ready", "1 once the daemon, or the bootstrap node, serves.")
	descCores       = describe("cores", "Feeds of the store: seeded, else open for somebody, else idle.", "state")
	descBehind      = describe("behind_blocks", "Blocks of seeded feeds that peers have told of and that are not here.")
	descBlocks      = describe("blocks_total", "Blocks received from peers and verified (in), and sent to them (out).", "dir")
	descBytes       = describe("bytes_total", "Bytes of those blocks.", "dir")
	descPushes      = describe("pushed_blocks_total", "Those of the blocks that came unasked and were stored (in), or were sent unasked (out).", "dir")
	descRejected    = describe("proof_rejected_total", "Answers of peers that were thrown away.", "reason")
	descRequests    = describe("requests_total", "Requests for blocks sent to peers.")
	descStalls      = describe("stalls_total", "Times that the requests of a silent peer were taken back.")
	descReorgs      = describe("reorgs_total", "Times that a feed was followed to a higher fork.")
	descInflight    = describe("inflight_requests", "Requests to peers that wait for an answer.")
	descInflightB   = describe("inflight_bytes", "Bytes of the blocks that those requests ask for, estimated from the sizes of blocks before.")
	descPeers       = describe("peers", "Connected peers.")
	descStreams     = describe("streams", "Replication streams over libp2p.", "state")
	descSupplanted  = describe("duplicate_streams_closed_total", "Streams closed because another one to the same peer took their place.")
	descAnnounced   = describe("announced_cores", "Feeds that are announced in the DHT, or waiting to be.", "state")
	descAnnounceLag = describe("announce_lag_seconds", "How long the oldest feed that is to be announced has waited for it.")
	descAnnounces   = describe("announce_total", "Direct announcements to the DHT.", "result")
	descTable       = describe("dht_peers", "Peers in the DHT's routing table.")
	descDecisions   = describe("policy_decisions_total", "What was decided of remotes: connections accepted and refused, doors refused, feeds asked for that were found or are unknown.", "action")
	descLag         = describe("consumer_lag_blocks", "How many blocks of a feed, as long as it is known to be, the slowest of those who follow through the API has not been sent.", "consumer")
	descProbe       = describe("probe_success", "1 if the node is in touch: it listens, a bootstrap peer is connected, the routing table has peers, all named peers have a stream.", "target")
	descStore       = describe("store_bytes", "Bytes that the store's database takes (used), and that may be added before the reserve (free).", "kind")
	descMemory      = describe("store_memory_bytes", "Bytes of memory that the store's cache holds, and its write buffers (tables).", "kind")
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descBuild, descReady, descCores, descBehind, descBlocks, descBytes, descPushes, descRejected, descRequests, descStalls, descReorgs,
		descInflight, descInflightB, descPeers, descStreams, descSupplanted, descAnnounced, descAnnounceLag, descAnnounces, descTable, descStore, descMemory,
		descDecisions, descLag, descProbe,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	ready := 0.0
	if m.s.ready.Load() {
		ready = 1
	}
	gauge(descBuild, 1, m.s.cfg.Status.Version)
	gauge(descReady, ready)
	m.collectCores(gauge)
	for consumer, lag := range m.s.consumers.lags() {
		gauge(descLag, float64(lag), consumer)
	}
	if space := m.s.cfg.Space; space != nil {
		if used, free, err := space(); err == nil {
			gauge(descStore, float64(used), "used")
			gauge(descStore, float64(free), "free")
		}
	}
	if memory := m.s.cfg.Memory; memory != nil {
		cache, tables := memory()
		gauge(descMemory, float64(cache), "cache")
		gauge(descMemory, float64(tables), "tables")
	}
	if n := m.s.running(); n != nil {
		collectNode(n, gauge, func(d *prometheus.Desc, v uint64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
		})
	}
}

func collectNode(n *node.Node, gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string)) {
	f := n.Figures()
	r := f.Replication
	counter(descBlocks, r.BlocksReceived, "in")
	counter(descBlocks, r.BlocksSent, "out")
	counter(descBytes, r.BytesReceived, "in")
	counter(descBytes, r.BytesSent, "out")
	counter(descPushes, r.PushesStored, "in")
	counter(descPushes, r.BlocksPushed, "out")
	counter(descRejected, r.InvalidProofs, "invalid")
	counter(descRejected, r.Unsolicited, "unsolicited")
	counter(descRequests, r.Requests)
	counter(descStalls, r.Stalls)
	counter(descReorgs, r.Reorgs)
	gauge(descInflight, float64(r.Inflight))
	gauge(descInflightB, float64(r.InflightBytes))
	gauge(descPeers, float64(len(n.Host().Network().Peers())))
	gauge(descStreams, float64(f.Streams), "up")
	gauge(descStreams, float64(f.Opening), "opening")
	counter(descSupplanted, f.Supplanted)
	gauge(descAnnounced, float64(f.Announced), "announced")
	gauge(descAnnounced, float64(f.Unannounced), "waiting")
	gauge(descAnnounceLag, f.AnnounceLag.Seconds())
	counter(descAnnounces, f.Announcements, "ok")
	counter(descAnnounces, f.AnnounceFailures, "failed")
	gauge(descTable, float64(f.TableSize))
	d := f.Decisions
	counter(descDecisions, d.ConnectionsAccepted, "connection_accepted")
	counter(descDecisions, d.ConnectionsRefused, "connection_refused")
	counter(descDecisions, d.DoorsRefused, "door_refused")
	counter(descDecisions, d.FeedsFound, "feed_found")
	counter(descDecisions, d.FeedsUnknown, "feed_unknown")
	for _, p := range n.Probes() {
		ok := 0.0
		if p.OK {
			ok = 1
		}
		gauge(descProbe, ok, p.Target)
	}
}

// collectCores counts the feeds of the store.
func (m *metrics) collectCores(gauge func(*prometheus.Desc, float64, ...string)) {
	ctx, cancel := context.WithTimeout(m.s.group.Context(), scrapeTimeout)
	defer cancel()
	stored, err := m.count(ctx)
	if err != nil || m.s.seeds.load(ctx) != nil {
		return
	}
	seeded := make(map[feed.Key]bool)
	for _, key := range m.s.seeds.keys() {
		seeded[key] = true
	}
	open := 0
	for f := range m.s.cfg.Store.Active() {
		if !seeded[f.Key()] {
			open++
		}
	}
	gauge(descCores, float64(len(seeded)), "seeding")
	gauge(descCores, float64(open), "open")
	gauge(descCores, float64(max(0, stored-len(seeded)-open)), "idle")
	gauge(descBehind, float64(m.s.seeds.behind()))
}

// count returns how many feeds are stored, or were a moment ago.
func (m *metrics) count(ctx context.Context) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.counted) < countInterval {
		return m.stored, nil
	}
	n := 0
	for _, err := range m.s.cfg.Store.List(ctx) {
		if err != nil {
			return 0, err
		}
		n++
	}
	m.stored, m.counted = n, time.Now()
	return n, nil
}
