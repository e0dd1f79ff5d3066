package api

import (
	"strings"
	"testing"
)

// TestStatusListsWhatIsEmpty: in a status what may hold several is a list, also of none.
func TestStatusListsWhatIsEmpty(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, path := range []string{"/v1/status", "/v1/status?brief=1"} {
		status, body := call(t, s.Transport(), "GET", path, "")
		if want := `"bootstrap":[],"listen":[],`; status != 200 || !strings.Contains(body, want) {
			t.Errorf("GET %s: got %d, %s; want %s in it", path, status, body, want)
		}
	}
}
