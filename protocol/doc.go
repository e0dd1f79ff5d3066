// Package protocol replicates feeds over any byte stream.
//
// A [Conn] is one stream to one peer. An [Exchange] is one feed, with all peers that talk about it:
// it decides what to ask of whom, serves what it has, and is its feed's Source. Attaching an
// exchange to a connection opens a channel for the feed on it:
//
//	x := protocol.NewExchange(f, protocol.ExchangeOptions{Downloading: true})
//	c := protocol.NewConn(stream, protocol.Config{Initiator: true, Binding: binding[:]})
//	err := c.Attach(x)
//	…
//	err = c.Run(ctx) // until the stream ends
//
// The conversation is that of the JavaScript package hypercore, version 11: Protomux channels of
// the protocol hypercore/alpha, whose name keeps the word "core" for what is called feed here. The
// stream is framed plainly (3 bytes of length, little endian, then the frame) and must itself be
// authenticated and encrypted; the Binding ties the channels to it.
//
// # Who waits for whom
//
// A connection has a reader and a writer, an exchange a loop that runs while it has something to do.
// The reader waits for the exchange whose peer has too much unprocessed, which is back-pressure to
// that peer alone. The loop never waits: it hands messages out against credit, which the writer gives
// back for what it has written, and work on the feed to a few workers. So two sides that both write and
// do not read cannot block each other for ever, and a peer that does not read costs a bounded
// amount of memory.
//
// # Faults
//
// A fault of the remote ends the smallest thing that it concerns: a bad message or a malformed proof its
// channel, a frame that is no frame the connection, as do many faults one after another. What the
// remote is to blame for is a [*ViolationError].
//
// A proof that is in form and leads to another hash or signature than the feed's may be a damaged block,
// a lie, or a sign that the writer has signed two histories. So the remote is asked to prove its head,
// which is held against the feed's. If both are signed and contradict each other the feed freezes: calls
// that wait end with a *feed.ConflictError, the other peers are told, nothing is asked or served. Else the
// remote goes on, a few times.
//
// # Forks
//
// A writer that truncates its feed starts a higher fork. Readers hear of it from any peer that has it,
// search with that peer's help for the last block that both forks have in common, and go over to it; what
// they had stored past that block is gone. ExchangeOptions.RefuseForks keeps a feed where it is.
package protocol
