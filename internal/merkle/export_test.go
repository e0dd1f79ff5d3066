package merkle

// Index52 is the root of a tree of MaxLength blocks.
const Index52 = maxIndex / 2 // 2^52-1: all leaves on either side
