// Package api is the HTTP face of a store and its node: one handler, through which the command line, other
// processes on the same machine and applications reach feeds. It listens nowhere itself. A process that
// holds a store calls the handler in memory ([Server.Transport]) and may serve it on a socket as well.
//
// Values are JSON under /v1; errors are application/problem+json, see [Problem]; what goes on for a
// while is a stream of JSON lines or of [Frame]s. openapi.yaml describes every route.
//
// The node is started by the first request that needs other peers: listing, creating and appending do not.
package api
