package replica

import (
	"github.com/p2pcore/p2pcore/internal/wire"
)

func (m *Machine) onSync(p *peer, s *wire.Sync) {
	moved := s.Length != p.length || s.Fork != p.fork
	if s.Fork != p.fork {
		// What it held past its new length belongs to another tree. And it may believe that we hold
		// what we held of the old one, and not announce that: we have to ask.
		p.known.clip(s.Length)
		p.staleAll()
		m.takeBack(p) // it will refuse what it was asked on the other fork, or has done so
		clear(p.refusals)
		p.rescanAll()
		m.overtakeCheck(p)
		p.push.restart()
	}
	fallen := p.synced && s.Fork < p.fork
	p.synced, p.fork, p.length = true, s.Fork, s.Length
	p.canUpgrade, p.hasManifest = s.CanUpgrade, s.HasManifest
	p.uploading, p.downloading, p.allowsPush = s.Uploading, s.Downloading, s.AllowPush
	p.acked, p.noUpgrade, p.noManifest = 0, false, false
	m.checkIdle = m.checkIdle || !s.Downloading
	m.touch(p)
	if fallen && m.countNoData(p) { // or refusals would cost nothing to who pretends to move on
		return
	}
	if m.info.Frozen {
		m.warn(p)
	}
	if s.Fork != m.info.Fork {
		m.judge(p)
		// A remote on an older fork learns from our sync that there is a newer one. The side with
		// the older fork does not answer, so this does not go on for ever.
		p.syncDue = p.syncDue || s.Fork < m.info.Fork
		return
	}
	p.acked, p.unaware = s.RemoteLength, 0
	if moved {
		m.judge(p)
	}
	// The longer side acknowledges; the shorter one never answers a sync with a sync.
	if m.info.Length > p.length {
		p.syncDue = true
	}
}

// judge finds out whether we can prove an upgrade from the remote's length to ours, asking the feed
// where that needs its nodes.
func (m *Machine) judge(p *peer) {
	delete(m.verdicts, p.verdict)
	p.verdict, p.can, p.rejudge = 0, false, false
	switch {
	case p.fork != m.info.Fork:
	case p.length == 0:
		m.setVerdict(p)
	case p.length >= m.info.Length:
	case p.asks >= maxVerdicts:
		p.rejudge = true
	default:
		p.asks++
		p.verdict = m.token()
		m.verdicts[p.verdict], m.judging[p.verdict] = p, p
		m.emit(CanUpgrade{Token: p.verdict, Peer: p.id, Length: p.length})
	}
}

// undecided reports whether a verdict on p is under way. No sync is sent meanwhile.
func (p *peer) undecided() bool { return p.verdict != 0 || p.rejudge }

func (m *Machine) setVerdict(p *peer) {
	p.can = true
	p.proven.Fork, p.proven.Length = p.fork, p.length
}

func (m *Machine) onVerdict(e Verdict) {
	if p := m.judging[e.Token]; p != nil {
		delete(m.judging, e.Token)
		p.asks--
		if p.rejudge && !p.gone {
			m.judge(p)
			m.touch(p)
			return
		}
	}
	p := m.verdicts[e.Token]
	if p == nil {
		return // the remote or our fork has moved: a newer ask is out, or none is needed
	}
	delete(m.verdicts, e.Token)
	p.verdict = 0
	if e.OK && p.length < m.info.Length {
		m.setVerdict(p)
		p.syncDue = true
	}
	m.touch(p)
}

// refresh takes over the head from the feed, and tells everybody when it has moved.
func (m *Machine) refresh() {
	info := m.local.Info()
	if info.Fork != m.info.Fork && !m.rewritten {
		return // the Changed that tells what is left of before is under way
	}
	old := m.info
	m.info = info
	switch {
	case info.Frozen && !old.Frozen:
		m.freeze()
	case !info.Frozen && old.Frozen:
		m.thaw()
	}
	headMoved := m.info.Fork != old.Fork || m.info.Length != old.Length
	if !headMoved && m.info.HasManifest == old.HasManifest {
		return
	}
	for _, p := range m.order {
		p.syncDue = true
		switch {
		case m.info.Fork != old.Fork:
			p.acked = 0
			m.judge(p)
		case p.length > 0 && p.length >= m.info.Length:
			p.can = false
		case p.fork == m.info.Fork && !p.can && !p.undecided():
			m.judge(p)
		}
		// A verdict that was true stays so when we grow: the nodes that it needs are still there.
		m.touch(p)
	}
	if headMoved {
		m.recount()
		m.resolveUpdates(true)
		m.resolvePassedSeeks()
	}
}

func (m *Machine) onSetDownloading(on bool) {
	if m.downloading == on {
		return
	}
	m.downloading = on
	m.checkIdle = true
	for _, p := range m.order {
		if p.toldDownloading != m.isDownloading() || p.toldPush != m.allowsPush() {
			p.syncDue = true
			m.touch(p)
		}
	}
}

// isDownloading is the flag that we report.
func (m *Machine) isDownloading() bool { return m.downloading || m.inflight > 0 || m.checking > 0 }

// endIdle closes the channels on which neither side wants anything. It runs after the windows have
// been filled, since a request makes us downloading.
func (m *Machine) endIdle() {
	if !m.checkIdle || m.isDownloading() {
		m.checkIdle = m.checkIdle && m.inflight > 0
		return
	}
	m.checkIdle = false
	for i := 0; i < len(m.order); {
		p := m.order[i]
		if p.toldDownloading && p.greeted {
			p.syncDue = true
			m.flush(p)
		}
		if p.synced && !p.downloading {
			m.closeChannel(p, false) // removes it from order
			continue
		}
		i++
	}
}
