// Package secretstream is the encrypted stream of the JavaScript package @hyperswarm/secret-stream
// over any ordered byte stream: a Noise handshake, then messages under libsodium's secretstream.
//
// Everything travels in frames, the handshake included:
//
//	3 bytes length, little endian; body of at most 16 MiB - 1
//
//	initiator → responder   e                 32 bytes   Noise XX, no prologue,
//	responder → initiator   e, ee, s, es      96         no payloads
//	initiator → responder   s, se             64
//	each side               stream id (32), secretstream header (24)
//	then                    tag (1), message, MAC (16)
//
// The Noise protocol is Noise_XX_Ed25519_ChaChaPoly_BLAKE2b: keys are Ed25519 keys, and the result of
// its Diffie-Hellman is a compressed Edwards point. Its hash at the end, [Stream.HandshakeHash], has
// a value that no other stream has.
//
// There is no goodbye: a stream that was cut looks like one that ended. An empty message is a
// keep-alive and is dropped; sending one now and then is the caller's affair, as are timeouts.
//
// Rules: the format notes of Hypercore 11, section 8; measured against secret-stream 6.9.2.
package secretstream
