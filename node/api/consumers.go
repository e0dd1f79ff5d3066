package api

import "sync"

// The kinds of streams by which a feed is followed.
const (
	consumerLines  = "ndjson"
	consumerSSE    = "sse"
	consumerFrames = "frames"
)

// consumers are the streams of blocks that follow feeds now. The zero value is ready. It is safe for concurrent use.
type consumers struct {
	mu  sync.Mutex
	all map[*blockStream]string // under mu: their kinds
}

// add notes a stream until leave is called.
func (c *consumers) add(bs *blockStream) (leave func()) {
	kind := consumerLines
	switch {
	case bs.out.sse:
		kind = consumerSSE
	case bs.out.frames:
		kind = consumerFrames
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[*blockStream]string)
	}
	c.all[bs] = kind
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.all, bs)
	}
}

// lags returns of each kind by how many blocks the slowest stream is behind its feed; 0 if there is none.
func (c *consumers) lags() map[string]uint64 {
	lags := map[string]uint64{consumerLines: 0, consumerSSE: 0, consumerFrames: 0}
	c.mu.Lock()
	defer c.mu.Unlock()
	for bs, kind := range c.all {
		length := bs.b.session.Info().Length
		lags[kind] = max(lags[kind], length-min(length, bs.sent.Load()))
	}
	return lags
}
