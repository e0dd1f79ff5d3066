// Package integration holds the promises of p2pcore, checked from outside: the
// program as its user runs it, in processes of its own, and the library through
// its public packages on real hosts.
//
// Everything talks over loopback, or inside a network namespace that a test makes
// for itself, and ends by itself. The slow tests are left out by -short.
package integration
