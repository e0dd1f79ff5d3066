package feed

// Bounds on what one call, one record or one peer may cost.
const (
	// MaxBlockBytes bounds one block. A block travels in one frame of at most 16 MiB - 1 (formats.md
	// 8.4), with room left for its nodes and signature; 15 MiB is the network's own limit (13).
	MaxBlockBytes = 15 << 20

	// MaxManifestBytes bounds a manifest taken from a peer: 100 times the size of a manifest with
	// eight signers, and little enough to be held for each of 10,000 feeds.
	MaxManifestBytes = 64 << 10

	// MaxSignatureBytes bounds the signature field of a head: 255 signers with patches of 64 nodes
	// each would be less.
	MaxSignatureBytes = 1 << 20

	// MaxPartialBytes bounds what one signer sends to another: a signature and a patch, which needs two
	// nodes per level of the tree at most.
	MaxPartialBytes = 8 << 10

	// MaxChangeRanges bounds the ranges of a Change that nobody takes. Past it neighbours are joined
	// across their gap: a receiver must ask the feed what it has anyway.
	MaxChangeRanges = 256

	// MaxApply bounds the proofs of one commit, so that one batch stays far below the datastore's
	// write buffer even with the largest blocks. More proofs are committed in several batches.
	MaxApply = 1024

	// maxApplyBytes bounds the block bytes of one commit, for the same reason.
	maxApplyBytes = 16 << 20

	// MaxProveBytes bounds the block bytes that one call of Prove reads, but for the last block: a
	// peer may ask for the same large block in every request of the call.
	MaxProveBytes = 4 << 20

	// maxDamages bounds the list that Check returns; more would not be read by anybody.
	maxDamages = 100

	// maxLength bounds the blocks of a feed: block numbers have 12 hexadecimal digits in keys. At a
	// million blocks per second it takes nine years to get there.
	maxLength = 1 << 48

	// maxCachedKeys bounds the keys (100 bytes each) that a HypercoreEncryption remembers. A ring has a few;
	// past it all are looked up again.
	maxCachedKeys = 64

	// defaultCacheNodePages is the number of node pages (5 KB each) that a feed keeps in memory. One
	// path from a leaf to the root of a feed of 2^28 blocks is four pages; this is a writer and a
	// few readers at different places, and bounds 10,000 busy feeds to 800 MB.
	defaultCacheNodePages = 16

	// minCacheNodePages is one path of the largest usual feed: with less, each step of a sequential
	// read would go to the datastore.
	minCacheNodePages = 4
)

// Bounds on generations, see generations.mergeStart.
const (
	// mergeGenerations is the length of the list below which nothing is merged.
	mergeGenerations = 16

	// mergeLeast is how many blocks are always worth copying.
	mergeLeast = 16

	// mergeBlocks and mergeBytes bound what one truncation copies.
	mergeBlocks = 4096
	mergeBytes  = 4 << 20
)

// maxCleared bounds the list of cleared ranges that wait for being swept.
const maxCleared = 256

const (
	// maxDeletes bounds the records that one batch deletes or rewrites while garbage is swept.
	maxDeletes = 1024

	// minDeleteRange is the number of neighbouring records from which on they are deleted as a range: a range
	// that is deleted stays in memory until it is compacted, and costs readers of its neighbours.
	minDeleteRange = 64

	// maxDeadRanges bounds the list of deleted key ranges that wait for a compaction; more are joined.
	maxDeadRanges = 64

	// compactBytes is how much has to be deleted before the datastore is made to give the space back at
	// once: a compaction rewrites what lies around, so doing it for less costs more than it gives.
	compactBytes = 4 << 20
)

const (
	// MaxNameBytes bounds the names of branches and the keys of user data; with the feed's prefix and in
	// hexadecimal they stay far below what any datastore takes as a key.
	MaxNameBytes = 255

	// MaxUserDataBytes bounds one value of user data: it is for settings, not for contents.
	MaxUserDataBytes = 1 << 20

	// maxBranches bounds the branches of a feed, all of which are in memory while it is open.
	maxBranches = 1024
)

const (
	// defaultPrefetch is how many blocks a Reader asks for ahead, as in JavaScript.
	defaultPrefetch = 32

	// defaultChunkSize is the size of the blocks of a Writer: large enough that nodes and messages weigh
	// nothing beside it, small enough that a reader of a few bytes does not fetch much in vain.
	defaultChunkSize = 64 << 10

	// writeBatchBytes and writeBatchBlocks bound what a Writer holds back: one sync of the disk for each
	// batch is then no longer what costs.
	writeBatchBytes  = 4 << 20
	writeBatchBlocks = 1024
)

// maxEvidenceBytes bounds each of the two proofs of a conflict: a signature, a manifest, and the nodes of two
// paths through the largest tree.
const maxEvidenceBytes = MaxSignatureBytes + MaxManifestBytes + 64<<10
