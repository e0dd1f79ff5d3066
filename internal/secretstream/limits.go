package secretstream

const (
	// maxBody is the largest body that the three bytes of length can announce.
	maxBody = 1<<24 - 1

	// MaxMessage is the size in bytes of the largest message that fits in a frame.
	MaxMessage = maxBody - overhead

	// maxHandshake bounds a frame of the handshake. None needs more than 96 bytes; what a later
	// version may add is ignored, and nothing is gained by sending more than this.
	maxHandshake = 1024

	// frameStep is how much is allocated for a frame before any of it has arrived, so that announcing a
	// large frame costs the remote the sending of it.
	frameStep = 1 << 20

	// readBuffer is how much ReadMessage reads from the stream at once.
	readBuffer = 64 << 10

	// maxKept is the capacity up to which a buffer is kept for the next message.
	maxKept = 1 << 20
)
