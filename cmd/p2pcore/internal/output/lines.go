package output

// The lines of stderr with --progress json, each named by its event.
type (
	// ErrorLine is why a command failed: its last line. With --json too.
	ErrorLine struct {
		Error   string `json:"error"` // name of the exit code
		Event   string `json:"event"` // "error"
		Exit    int    `json:"exit"`
		Message string `json:"message"`
		Reason  string `json:"reason,omitempty"` // what a wait was for: no-peers, no-network, no-data, denied
	}
	// NoteLine is a hint.
	NoteLine struct {
		Event   string `json:"event"` // "note"
		Message string `json:"message"`
	}
	// ProgressLine is how far a command has come.
	ProgressLine struct {
		Event string  `json:"event"` // "progress"
		Done  uint64  `json:"done"`  // of Total: blocks; of an import bytes
		Total uint64  `json:"total"`
		Bytes uint64  `json:"bytes"` // of blocks that were received
		Peers int     `json:"peers"`
		Rate  float64 `json:"rate"` // bytes per second
	}
	// ResultLine is the result of a command whose stdout holds content.
	ResultLine struct {
		Event  string `json:"event"` // "result"
		Result any    `json:"result"`
	}
	// WaitingLine is what a command waits for.
	WaitingLine struct {
		Event   string `json:"event"` // "waiting"
		Message string `json:"message"`
		Reason  string `json:"reason"`
	}
)
