package muxer

const (
	// maxFrame bounds a frame that is sent: its length has three bytes on the stream, and encrypting it there takes
	// 17 bytes more.
	maxFrame = 1<<24 - 1 - 32

	// maxBatch is the size in bytes at which a batch is cut. Protomux cuts at 8 MiB. The remote sees nothing of a
	// batch before all of it has arrived, so on a slow link large ones make it wait, and ask in clumps; smaller ones
	// cost more per message.
	maxBatch = 32 << 10

	// maxSpareBytes and maxSpareFrames bound the memory of written frames that is kept for the next ones: the 1 MiB
	// that a channel has credit for, so that a burst of that size takes no new memory, and half as much for what
	// is allocated and left unused. creditBytes is the size of a Credit.
	maxSpareBytes  = 1<<20 + 1<<19
	maxSpareFrames = maxSpareBytes / maxBatch
	creditBytes    = 16

	// maxBuffered bounds what is kept for channels that wait for a decision here, counting
	// bufferedCost for each message. Above it the reader has to stop (Congested). Protomux's figures.
	maxBuffered  = 32 << 10
	bufferedCost = 512

	// maxPending bounds the opens held for a decision. At it the reader has to stop (Congested): JavaScript sends all
	// its opens at once and never repeats one that was rejected. Who reads on sees further ones rejected. Each costs
	// some hundred bytes, and a look into the store takes far longer than reading one.
	maxPending = 1024

	// maxChannels bounds the channels that the remote has open; further ones are rejected. Each costs
	// some hundred bytes here and an entry in its owner.
	maxChannels = 16 << 10

	// maxChannelID bounds the ids, which are small while freed ones are reused as protomux does.
	maxChannelID = 64 << 10

	// maxName, maxID and maxHandshake bound what an open makes us remember, in bytes. The protocols
	// spoken here use 15, 32 and 33. A longer open is rejected.
	maxName      = 128
	maxID        = 128
	maxHandshake = 1024

	// maxDepth bounds batches inside batches. No known implementation nests them at all.
	maxDepth = 4

	// maxControl bounds the control bytes (rejects, closes and answers to opens) that wait to be written.
	// A remote that opens and never reads is made to wait by it (Congested). Two honest sides that open
	// their feeds to each other at once must both get along: it is room for 3,000 answers, and as much again
	// is in the frame being written.
	maxControl = 256 << 10

	// maxOrphaned bounds the bytes of closed channels that wait to be written. Each channel has credit of
	// its own, so a remote that opens, asks, closes and never reads is made to wait by it (Congested).
	// It is as much as the open channels of a connection have together.
	maxOrphaned = 8 << 20
)
