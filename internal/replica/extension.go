package replica

import "github.com/p2pcore/p2pcore/internal/wire"

// onExtension hands a message on with its name: an empty one repeats the last, also where nobody
// here knows it.
func (m *Machine) onExtension(p *peer, x *wire.Extension) {
	if x.Name != "" {
		p.extension = x.Name
	}
	if p.extension == "" {
		return // a repetition of nothing
	}
	m.emit(Deliver{Peer: p.id, Name: p.extension, Message: x.Message})
}

func (m *Machine) onExtend(e Extend) {
	p := m.peers[e.Peer]
	if p == nil {
		return
	}
	if len(p.extensions) >= m.limits.Extensions || p.extensionBytes+len(e.Message) > maxExtensionBytes {
		m.stats.ExtensionsLost++
		return
	}
	p.extensions = append(p.extensions, &wire.Extension{Name: e.Name, Message: e.Message})
	p.extensionBytes += len(e.Message)
	m.touch(p)
}
