// Package shrink deletes from maps that were large once. A map of Go's keeps the room of the most entries that it ever
// had, whatever is deleted (golang.org/issue/20135): thousands of feeds that were open at once would go on costing
// memory for as long as the store is open.
package shrink

import "maps"

const (
	// least is how many entries must have gone before a map is made anew: smaller ones are not worth it.
	least = 256

	// share of what has gone since the map was made is left when it is made anew. The copies that a deletion costs in
	// the long run are one in share.
	share = 4
)

// Delete removes a key from *m. gone belongs to the map, and is 0 when that is made: when so many keys have been removed
// that little is left, *m becomes a map that is as large as it needs to be. Whoever ranges over *m while Delete is called
// sees the old one. It is as safe for concurrent use as the map.
func Delete[M ~map[K]V, K comparable, V any](m *M, key K, gone *int) {
	if _, ok := (*m)[key]; !ok {
		return
	}
	delete(*m, key)
	*gone++
	if *gone < least || *gone < share*len(*m) {
		return
	}
	smaller := make(M, len(*m))
	maps.Copy(smaller, *m)
	*m, *gone = smaller, 0
}
