package wire

const (
	// MaxMessage bounds one message in bytes: a frame's length has three bytes.
	MaxMessage = 1<<24 - 1

	// maxNodes bounds each list of tree nodes. A tree of 2^53 blocks has 53 levels and at most 53
	// roots, so an honest list has at most some 106 nodes.
	maxNodes = 1024

	// maxSignature bounds the signature field. A multi signature carries signatures of 64 bytes and
	// nodes of at most 50; this leaves room for hundreds of signers.
	maxSignature = 1 << 18

	// maxExtensionName bounds the name of an extension, which a receiver has to remember.
	maxExtensionName = 1024
)
