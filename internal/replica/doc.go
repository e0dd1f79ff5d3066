// Package replica takes the decisions of replication for one feed over many peers: which message
// goes to whom, which block is asked of whom, what is served. It is a pure state machine. Events go
// in through Machine.Step, actions come out; there is no clock, no I/O, no goroutine and no logger
// in it, and chance comes from the generator handed to New.
//
// A peer is one open channel on one connection. The driver numbers the channels and never uses a
// number twice: a channel that is opened again is a new peer.
//
// # Asks and answers
//
// Some actions ask the driver for work that reads or writes the feed. Each carries a Token, and the
// driver owes exactly one event with the same token, in any order and at any time, even when the
// peer has gone meanwhile:
//
//	Plan       → Planned     the missing tree levels of some blocks
//	CanUpgrade → Verdict     are the roots of a length stored?
//	Prove      → Proved      build an answer for a remote request
//	Apply      → Applied     verify a remote answer and store it
//	StartReorg → Reorged     verify the head of a higher fork, begin the search for what is common
//	StepReorg  → Reorged     go on with the search
//	ApplyReorg → Reorged     go over to the fork
//	Examine    → Examined    hold a remote's head against ours, freeze the feed if they contradict
//
// The tickets of Want, WantUpgrade and WantSeek are the driver's, not 0 and unique among those not
// yet resolved; each is answered by one Resolve unless Forget comes first. The other actions expect
// no event, with one exception: every Send takes credit, which comes back as Room once the message
// has been written.
//
// # Order
//
// The actions of one Step are carried out in order, and Sends to one peer must reach its stream in
// the order in which they were returned. Asks may run concurrently. What an Apply has stored must
// be visible through Local before its Applied is handed in. A change of the feed is handed in as
// Changed after it is durable; changes may be merged, and a change that came about by an Apply is
// reported both ways: Applied moves the scheduler, Changed makes the announcements.
//
// After CloseChannel or Drop the peer does not exist any more: the driver closes the channel and
// needs not say Closed. Events for a peer, token or ticket that the machine does not know are
// ignored, so that late ones do no harm.
//
// # Forks and conflicts
//
// A remote with a higher fork is asked for its head, then for one hash after the other until the last
// block that both forks have in common is found (fork.go, reorg.go). What the machine believes of the
// feed changes its fork with the Changed that says Forked, not before: until then it does not know which
// of the blocks are still the feed's.
//
// An answer that leads to another hash than ours has the remote prove its head; two signed heads that
// contradict each other freeze the feed (conflict.go). A frozen machine resolves all wishes with ErrFrozen.
// It closes its channels; after a thaw the driver opens them again.
//
// # Pushes
//
// Blocks can travel unasked, to peers that allow it (push.go), and a feed can be told to ask for nothing (pushed.go).
// What was pushed here goes to Apply like an answer, and counts against no window.
//
// # Opening again
//
// Channels are opened by the driver. It opens one on every connection without one when the feed
// starts to download (SetDownloading{true}), at once when the remote has closed a channel whose
// last sync said that it was not downloading while we are, and after a delay with back-off when
// that sync said it was, or when CloseChannel asks for it with Reopen.
//
// # Ownership
//
// The slice that Step returns is valid until the next Step; the actions in it, and all messages and
// slices that they point to, are the driver's to keep and not changed later. Slices and messages in
// events belong to the machine from then on. A proof in Received may alias the frame it was parsed
// from: it travels unchanged into Apply.
//
// # Many peers
//
// The blocks of a download are spread over all peers that hold them, each block being asked of one. How
// much is asked of a peer at once follows from how fast it answers (window.go). A peer that has nothing left
// to do is given what waits for a slot elsewhere, and then asked too for what others owe, where it can be
// expected to bring it sooner (swap.go): at most maxRivals peers are asked for one block, and the first answer
// counts. A peer that answers nothing at all loses what it was asked after StallTimeout.
//
// Where several readers download the same feed, those that have everything are asked with care, so that a
// writer sends each block about once whatever the number of readers (economy.go).
//
// # Bounds
//
// Whatever a peer does, the memory it costs is bounded by the numbers in limits.go. The rules of
// the conversation are those of Hypercore 11, and comments name the rule where one looks odd.
package replica
