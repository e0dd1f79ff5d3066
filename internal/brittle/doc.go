// Package brittle is a datastore in memory that fails where a test wants it to, and that crashes. It is for
// test files only.
package brittle
