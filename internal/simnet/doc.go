// Package simnet is a network link in memory, with a delay, a bandwidth and bounded buffers. It is for
// test files only.
//
// A link has no goroutine: who reads or writes waits on a timer. In a bubble of testing/synctest time is
// fake, and what a link does at which moment depends on nothing but what is written and read:
//
//	     Write                                       Read
//	A ─────────► [ buffer ] ──bandwidth──► delay ──► [ buffer ] ─────────► B
//	A ◄───────── [ buffer ] ◄── delay ◄──bandwidth── [ buffer ] ◄───────── B
//
// Each direction is a Path of its own. Nothing is lost or reordered on it; a lossy network, to those who
// use streams, is one that takes long (Pause) or breaks (Cut).
package simnet
