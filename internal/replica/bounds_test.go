package replica

import (
	"slices"
	"testing"
)

// checkBounds looks at what must hold in a machine after every Step, whatever came in.
func checkBounds(t testing.TB, m *Machine) {
	t.Helper()
	sent, applying := 0, 0
	for _, p := range m.order {
		perPeer := 0
		for id, r := range p.requests {
			if r == nil || r.state == stateCancelled || r.state == stateLate {
				continue
			}
			if r.state != stateSent || r.id != uint64(id) || r.peer != p {
				t.Fatalf("peer %d: slot %d holds request %d of peer %d in state %d", p.id, id, r.id, r.peer.id, r.state)
			}
			if rs, n := m.rivals(r.block); r.hasBlock && !slices.Contains(rs[:n], r) {
				t.Fatalf("block %d is in flight and not known to be", r.block)
			}
			perPeer++
		}
		if perPeer != p.sent || p.sent > p.inflight || p.inflight > p.limit {
			t.Fatalf("peer %d: %d sent, counted %d, %d in flight, window %d", p.id, perPeer, p.sent, p.inflight, p.limit)
		}
		sent += perPeer
		ahead := max(pickChunk, p.limit/2)
		checks := []struct {
			what      string
			got, most int
		}{
			{"ready and planning", len(p.ready) + p.planning, p.limit + 3*ahead + pickChunk},
			{"wanted pages", len(p.pages), maxWantPages},
			{"known bytes", p.known.bits.Size(), maxKnownBytes},
			{"pending adds", len(p.adds), maxPendingRanges},
			{"pending drops", len(p.drops), maxPendingRanges},
			{"cancelled ids", len(p.cancelled), maxCancelled + MaxWindow},
			{"ids", len(p.requests), maxCancelled + 2*MaxWindow},
			{"queued requests", len(p.served), m.limits.QueuedRequests},
			{"waiting", len(p.waiting[0]) + len(p.waiting[1]), 4*m.limits.QueuedRequests + 2},
			{"answers", len(p.answers), m.limits.Proving + maxInvalidRequests},
			{"remote pages", len(p.remoteWants.pages), maxServedMemory},
			{"due pages", len(p.remoteWants.due), maxServedMemory + maxServedAnyMemory},
			{"wants of any block", len(p.remoteWants.anys), maxServedAnyMemory},
			{"odd wants", len(p.remoteWants.odd), maxOddWants},
			{"extensions", len(p.extensions), m.limits.Extensions},
			{"refusals", len(p.refusals), 64},
			{"pushes", len(p.push.queue), maxPendingRanges},
			{"held upgrades", len(p.push.held), 2 * m.limits.QueuedRequests},
			{"pushes being verified", p.taking, maxTaking},
		}
		for _, c := range checks {
			if c.got > c.most {
				t.Fatalf("peer %d: %d %s, at most %d allowed", p.id, c.got, c.what, c.most)
			}
		}
	}
	rare := 0
	for b := range m.fetches {
		rs, n := m.rivals(b)
		for _, r := range rs[:n] {
			if r.rare {
				rare++
			}
		}
		for i, r := range rs[:n] {
			if r.block != b || r.state > stateApplying || n > 1 && r.state < stateSent {
				t.Fatalf("block %d is asked of %d peers, and request %d is for block %d in state %d", b, n, i, r.block, r.state)
			}
			if slices.ContainsFunc(rs[:i], func(o *request) bool { return o.peer == r.peer }) {
				t.Fatalf("block %d is asked twice of peer %d", b, r.peer.id)
			}
		}
	}
	if rare != m.rareAsked {
		t.Fatalf("%d rare blocks are asked for, counted %d", rare, m.rareAsked)
	}
	for _, r := range m.applies {
		if r.state == stateApplying {
			applying++
		}
	}
	for _, r := range m.reorgs {
		if r.state == stateApplying {
			applying++
		}
	}
	if len(m.candidates) > maxCandidates {
		t.Fatalf("%d forks are being asked about", len(m.candidates))
	}
	for _, c := range m.candidates {
		if c.search == nil && c.asked == nil || c.fork <= m.info.Fork && c != m.applying {
			t.Fatalf("fork %d is left, ours is %d, %v", c.fork, m.info.Fork, c)
		}
	}
	checking := len(m.examined)
	for _, p := range m.order {
		if p.check != nil {
			checking++
		}
	}
	if checking != m.checking {
		t.Fatalf("%d checks are under way, counted %d", checking, m.checking)
	}
	if sent+applying != m.inflight {
		t.Fatalf("in flight: %d sent and %d applying, counted %d", sent, applying, m.inflight)
	}
	if len(m.proofs) > m.limits.Proving {
		t.Fatalf("%d proofs being built", len(m.proofs))
	}
	for b, r := range m.fetches {
		if r.state == stateDone || r.block != b {
			t.Fatalf("block %d is held by a request in state %d for %d", b, r.state, r.block)
		}
	}
}
