package feed

import "encoding/binary"

// signableBytes is the size of what is signed, at most: namespace, context, hash, length, fork.
const signableBytes = 3*32 + 2*8

// Signable returns the bytes that a signer of the feed signs for h (formats.md 4.3), for keys that live
// elsewhere. m is the manifest of key, signer an index in m.Signers: it panics if there is none such.
//
//	version 0    TREE | signer's namespace | hash | le64 length | le64 fork
//	versions 1+  TREE | key                | hash | le64 length | le64 fork
//	compat       TREE |                      hash | le64 length | le64 fork
func Signable(key Key, m *Manifest, signer int, h Head) []byte {
	a := authority{key: key, manifest: m, compat: m.compat(key)}
	return a.signable(h, signer)
}

// LegacySignable returns what the oldest writers of compat feeds signed for h: what they sign today
// without the namespace in front. Nothing is signed like this any more; see VerifyLegacyHead.
func LegacySignable(h Head) []byte {
	return appendHead(make([]byte, 0, signableBytes), h)
}

// signable returns the bytes that signer i signs for h.
func (a *authority) signable(h Head, i int) []byte {
	b := make([]byte, 0, signableBytes)
	b = append(b, treeNamespace[:]...)
	namespace := &a.manifest.Signers[i].Namespace
	switch {
	case a.compat:
	case a.manifest.Version == 0:
		b = append(b, namespace[:]...)
	default:
		b = append(b, a.key[:]...)
	}
	return appendHead(b, h)
}

func appendHead(b []byte, h Head) []byte {
	b = append(b, h.Hash[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.Length)
	return binary.LittleEndian.AppendUint64(b, h.Fork)
}
