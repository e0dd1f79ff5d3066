// Package archtest holds the tests of the architecture: which package may
// import which, who may start goroutines, and what no package may have.
//
// The tests parse the files of the module. They ask no tool and build nothing,
// so that go test knows each file they depend on and never repeats a stale
// result; and they can print the way by which a package reaches another. What
// they know is syntax: they judge names as the file imports them, not types.
package archtest
