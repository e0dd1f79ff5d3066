package replica

import (
	"fmt"
	"iter"
	"strings"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// fakeFeed is a feed without a tree, or with the fake one of fakefork_test.go: it knows which blocks it
// has, and what has changed since the last Changed.
type fakeFeed struct {
	info      Info
	bits      bitfield.Bitfield
	tree      []uint64 // nil: none
	added     []merkle.Range
	dropped   []merkle.Range
	moved     bool
	fork      uint64 // of the last Changed
	ancestors uint64 // what is left since then, if the fork is another one
}

func (f *fakeFeed) Info() Info { return f.info }

func (f *fakeFeed) Ranges(r merkle.Range) iter.Seq[merkle.Range] {
	return func(yield func(merkle.Range) bool) {
		for start, end := range f.bits.Ranges(r.Start, r.End) {
			if !yield(merkle.Range{Start: start, End: end}) {
				return
			}
		}
	}
}

func (f *fakeFeed) store(b uint64) (isNew bool) {
	if !f.bits.Set(b, true) {
		return false
	}
	if n := len(f.added); n > 0 && f.added[n-1].End == b {
		f.added[n-1].End++
	} else {
		f.added = append(f.added, merkle.Range{Start: b, End: b + 1})
	}
	return true
}

func (f *fakeFeed) drop(r merkle.Range) {
	f.bits.SetRange(r.Start, r.End, false)
	f.dropped = append(f.dropped, r)
}

// changed returns what has happened since the last call.
func (f *fakeFeed) changed() Changed {
	c := Changed{Added: f.added, Dropped: f.dropped}
	if f.info.Fork != f.fork {
		c.Forked, c.Ancestors = true, f.ancestors
	}
	f.added, f.dropped, f.moved = nil, nil, false
	f.fork = f.info.Fork
	return c
}

// apply stores a proof of a fake feed, and returns what Apply would.
func (f *fakeFeed) apply(token Token, p *merkle.Proof) Applied {
	a := Applied{Token: token}
	if p.Fork != f.info.Fork {
		a.Fault = FaultStale
		return a
	}
	if p.Manifest != nil && !f.info.HasManifest {
		f.info.HasManifest, f.moved = true, true
	}
	if u := p.Upgrade; u != nil {
		if u.Start > f.info.Length {
			a.Fault = FaultStale
			return a
		}
		if !f.fits(u) {
			a.Fault = FaultContradicts
			return a
		}
		// The additional nodes of a real proof reach up to the prover's head; the fake carries it
		// in the size of the first of them.
		length := u.Start + u.Length
		if len(u.Additional) > 0 {
			length = u.Additional[0].Size
		}
		if length > f.info.Length {
			f.grow(u)
			f.info.Length, f.moved, a.Grown = length, true, true
		}
	}
	if p.Block != nil && !f.fitsBlock(p.Block) {
		a.Fault = FaultContradicts
		return a
	}
	if p.Block != nil && p.Block.Index < f.info.Length {
		a.Stored = f.store(p.Block.Index)
	}
	return a
}

// prove makes a fake proof.
func (f *fakeFeed) prove(token Token, req merkle.Request, blockSize int) Proved {
	pr := Proved{Token: token, Proof: &merkle.Proof{Fork: req.Fork}}
	switch u := req.Upgrade; {
	case req.Fork != f.info.Fork:
		return Proved{Token: token, Fault: FaultStale}
	case u != nil && (u.Length == 0 || u.Start+u.Length > f.info.Length || u.Start+u.Length < u.Start):
		return Proved{Token: token, Fault: FaultInvalid}
	case u != nil:
		pr.Proof.Upgrade = &merkle.UpgradeProof{Start: u.Start, Length: u.Length, Signature: []byte{1}}
		if u.Start+u.Length < f.info.Length {
			pr.Proof.Upgrade.Additional = []merkle.Node{{Size: f.info.Length}}
		}
		f.proveTree(pr.Proof.Upgrade)
	}
	if b := req.Block; b != nil {
		if !f.bits.Has(b.Index) {
			return Proved{Token: token, Fault: FaultNotAvailable}
		}
		pr.Proof.Block = &merkle.BlockProof{Index: b.Index, Value: make([]byte, blockSize)}
		f.proveBlock(pr.Proof.Block)
	}
	if h := req.Hash; h != nil {
		if f.tree != nil && !f.bits.Has(h.Index.Offset()) {
			return Proved{Token: token, Fault: FaultNotAvailable}
		}
		pr.Proof.Hash = &merkle.HashProof{Index: h.Index}
	}
	if s := req.Seek; s != nil {
		pr.Proof.Seek = &merkle.SeekProof{Bytes: s.Bytes}
	}
	if req.Manifest && f.info.HasManifest {
		pr.Proof.Manifest = []byte{1}
	}
	return pr
}

// show writes an action as a line of a scenario.
func show(a Action) string {
	switch a := a.(type) {
	case Send:
		return fmt.Sprintf("%d < %s", a.Peer, showMessage(a.Message))
	case Plan:
		return "plan " + strings.Trim(fmt.Sprint(a.Blocks), "[]")
	case CanUpgrade:
		return fmt.Sprintf("%d can-upgrade? length=%d", a.Peer, a.Length)
	case Prove:
		return fmt.Sprintf("%d prove%s", a.Peer, showRequest(&a.Request))
	case Apply:
		return fmt.Sprintf("%d apply%s", a.Peer, showProof(a.Proof))
	case StartReorg:
		return fmt.Sprintf("%d start-reorg%s", a.Peer, showProof(a.Proof))
	case StepReorg:
		return fmt.Sprintf("%d step-reorg%s", a.Peer, showProof(a.Proof))
	case ApplyReorg:
		return "apply-reorg" + flags(a.Early, "early")
	case Examine:
		return fmt.Sprintf("%d examine%s", a.Peer, showProof(a.Proof))
	case Resolve:
		s := fmt.Sprintf("resolve %d", a.Ticket)
		if a.Grown {
			s += " grown"
		}
		if a.Err != nil {
			s += " error: " + a.Err.Error()
		}
		return s
	case CloseChannel:
		if a.Reopen {
			return fmt.Sprintf("%d close reopen", a.Peer)
		}
		return fmt.Sprintf("%d close", a.Peer)
	case Drop:
		return fmt.Sprintf("%d drop: %s", a.Peer, a.Reason)
	case Deliver:
		return fmt.Sprintf("%d deliver %s %q", a.Peer, a.Name, a.Message)
	}
	return fmt.Sprintf("?%T", a)
}

func showMessage(msg wire.Message) string {
	switch m := msg.(type) {
	case *wire.Sync:
		s := fmt.Sprintf("sync fork=%d length=%d remote=%d", m.Fork, m.Length, m.RemoteLength)
		return s + flags(m.CanUpgrade, "can", m.Uploading, "up", m.Downloading, "down",
			m.HasManifest, "manifest", m.AllowPush, "push")
	case *wire.Request:
		return fmt.Sprintf("request %d%s%s", m.ID, showRequest(&m.Request), flags(m.Priority > 0, "urgent"))
	case *wire.Cancel:
		return fmt.Sprintf("cancel %d", m.ID)
	case *wire.Data:
		return fmt.Sprintf("data %d%s", m.ID, showProof(&m.Proof))
	case *wire.NoData:
		return fmt.Sprintf("nodata %d reason=%d", m.ID, m.Reason)
	case *wire.Want:
		return fmt.Sprintf("want %d..%d%s", m.Start, m.Start+m.Length, flags(m.Any, "any"))
	case *wire.Unwant:
		return fmt.Sprintf("unwant %d..%d", m.Start, m.Start+m.Length)
	case *wire.Bitfield:
		return fmt.Sprintf("bitfield %d %x", m.Start, m.Words)
	case *wire.Range:
		if m.Drop {
			return fmt.Sprintf("range drop %d..%d", m.Start, m.Start+m.Length)
		}
		return fmt.Sprintf("range %d..%d", m.Start, m.Start+m.Length)
	case *wire.Extension:
		return fmt.Sprintf("extension %s %q", m.Name, m.Message)
	}
	return fmt.Sprintf("?%T", msg)
}

func showRequest(r *merkle.Request) string {
	s := fmt.Sprintf(" fork=%d", r.Fork)
	if r.Block != nil {
		s += fmt.Sprintf(" block=%d/%d", r.Block.Index, r.Block.Nodes)
	}
	if r.Hash != nil {
		s += fmt.Sprintf(" hash=%d/%d", r.Hash.Index, r.Hash.Nodes)
	}
	if r.Seek != nil {
		s += fmt.Sprintf(" seek=%d/%d", r.Seek.Bytes, r.Seek.Padding)
	}
	if r.Upgrade != nil {
		s += fmt.Sprintf(" upgrade=%d+%d", r.Upgrade.Start, r.Upgrade.Length)
	}
	return s + flags(r.Manifest, "manifest")
}

func showProof(p *merkle.Proof) string {
	s := fmt.Sprintf(" fork=%d", p.Fork)
	if p.Block != nil {
		s += fmt.Sprintf(" block=%d", p.Block.Index)
	}
	if p.Hash != nil {
		s += fmt.Sprintf(" hash=%d", p.Hash.Index)
	}
	if p.Seek != nil {
		s += fmt.Sprintf(" seek=%d", p.Seek.Bytes)
	}
	if p.Upgrade != nil {
		s += fmt.Sprintf(" upgrade=%d+%d", p.Upgrade.Start, p.Upgrade.Length)
	}
	return s + flags(p.Manifest != nil, "manifest")
}

func flags(pairs ...any) string {
	var s string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i].(bool) {
			s += " " + pairs[i+1].(string)
		}
	}
	return s
}
