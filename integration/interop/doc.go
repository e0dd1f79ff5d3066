// Package interop lets p2pcore replicate with the JavaScript implementation: the
// packages hypercore and corestore, in Node processes, over raw TCP and through
// js-libp2p. Each scenario is written once and runs with either side as the writer
// and with either side as the one that dials, and then Go with Go.
//
// The JavaScript side is integration/js/peer/main.js. It tells of every uncaught
// error, failed proof and invalid request; one that a scenario does not expect fails
// it. With -baseline scenarios run JavaScript with JavaScript instead, which tells a
// wrong scenario from a wrong implementation.
//
// The packages are those of integration/js/package-lock.json and are installed, with
// npm ci, when they are not there. The package needs node and npm and does nothing
// with -short.
package interop
