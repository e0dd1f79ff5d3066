package muxer

const (
	// maxFrame bounds a frame: its length has three bytes on the stream.
	maxFrame = 1<<24 - 1

	// maxBatch is the size in bytes at which a batch is cut. Protomux cuts at 8 MiB; smaller batches
	// let the credit for what has been written come back while the rest is still being written.
	maxBatch = 256 << 10

	// maxBuffered bounds what is kept for channels that wait for a decision here, counting
	// bufferedCost for each message. Above it the reader has to stop (Congested). Protomux's figures.
	maxBuffered  = 32 << 10
	bufferedCost = 512

	// maxPending bounds the opens held for a decision; further ones are rejected at once. It equals
	// the number of feeds that one connection is expected to offer at a time.
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

	// maxControl bounds the control bytes (rejects and closes) that wait to be written. A remote that
	// opens and never reads is made to wait by it (Congested).
	maxControl = 64 << 10
)
