// Package mesh runs a network of p2pcore nodes, does to it what happens to networks, and looks at what they make of it
// through their APIs.
//
// A [Mesh] has one bootstrap node, writers, mirrors and readers. A [Backend] runs them: [Namespaces], each as a process in
// a network namespace of its own, or [Docker], each as a container. Both need root, on Linux. The scenarios are this
// package's tests; docs/mesh.md tells how to write one.
//
// Nothing here starts a goroutine: what blocks takes a context.
package mesh
