package archtest

// A row of the import table. Patterns are those of matches; paths of our own
// packages begin with a slash.
type row struct {
	pkgs  []string // the packages that the row is about
	allow []string // what they may import
	never []string // what they must not reach, also through our other packages
}

var (
	// network is what speaks to other machines. Addresses as values do not.
	network = []string{"net", "net/http/...", "net/rpc/...", "net/smtp", "net/textproto", "net/mail", "crypto/tls"}

	libp2p = []string{"github.com/libp2p/..."}

	cryptography = []string{"golang.org/x/crypto/...", "filippo.io/edwards25519/..."}

	datastore = []string{"github.com/ipfs/go-datastore/..."}

	// public is every package of ours that somebody may import.
	public = []string{"/feed", "/corestore/...", "/protocol", "/dht", "/node/..."}

	// programs are what nothing may import.
	programs = []string{"/cmd/...", "/integration/..."}

	// values are addresses and identities, which node takes in its options.
	values = []string{"github.com/libp2p/go-libp2p/core/peer", "github.com/libp2p/go-libp2p/core/crypto", "github.com/multiformats/go-multiaddr/..."}
)

// table says which package may import which. The first row that speaks of a
// package holds.
var table = []row{
	{
		pkgs:  []string{"/internal/brittle"},
		allow: list([]string{"std"}, datastore),
		never: list(public, programs, libp2p, network),
	},
	{
		pkgs:  []string{"/internal/..."},
		allow: list([]string{"std", "/internal/...", "github.com/flynn/noise"}, cryptography),
		never: list(public, programs, libp2p),
	},
	{
		pkgs:  []string{"/feed"},
		allow: list([]string{"std", "/internal/..."}, cryptography, datastore),
		never: list(network, libp2p, programs, []string{"/corestore/...", "/protocol", "/dht", "/node/..."}),
	},
	{
		pkgs:  []string{"/corestore"},
		allow: list([]string{"std", "/internal/...", "/feed"}, cryptography, datastore),
		never: list(network, libp2p, programs, []string{"/protocol", "/dht", "/node/..."}),
	},
	{
		pkgs: []string{"/corestore/disk"},
		allow: list(datastore, []string{"std", "/internal/...", "/corestore", "/feed", "github.com/ipfs/go-ds-pebble",
			"github.com/cockroachdb/pebble/...", "github.com/gofrs/flock", "golang.org/x/sys/..."}),
		never: list(network, libp2p, programs, []string{"/protocol", "/dht", "/node/..."}),
	},
	{
		pkgs:  []string{"/protocol"},
		allow: list([]string{"std", "/internal/...", "/feed"}, cryptography),
		never: list(network, libp2p, programs, []string{"/corestore/...", "/dht", "/node/..."}),
	},
	{
		pkgs: []string{"/dht"},
		allow: []string{"std", "/internal/...", "github.com/libp2p/go-libp2p/core/peer", "github.com/ipfs/go-cid",
			"github.com/multiformats/go-multihash/..."},
		never: list(programs, []string{"/feed", "/corestore/...", "/protocol", "/node/...", "github.com/libp2p/go-libp2p/core/host"}),
	},
	{
		pkgs: []string{"/node"},
		allow: list(libp2p, datastore, cryptography, []string{"std", "/internal/...", "/feed", "/corestore", "/protocol", "/dht",
			"github.com/ipfs/go-cid", "github.com/multiformats/...", "github.com/prometheus/client_golang/..."}),
		never: list(programs, []string{"/node/..."}),
	},
	{
		pkgs:  []string{"/node/..."},
		allow: list(public, libp2p, datastore, []string{"std", "/internal/...", "github.com/multiformats/...", "github.com/prometheus/..."}),
		never: programs,
	},
	{
		pkgs: []string{"/cmd/..."},
		allow: list(public, values, []string{"std", "/cmd/...", "/internal/lifecycle", "github.com/spf13/cobra", "github.com/spf13/pflag",
			"github.com/BurntSushi/toml", "github.com/pelletier/go-toml/v2", "golang.org/x/term", "golang.org/x/sys/..."}),
		never: []string{"/integration/..."},
	},
	{
		// Tests only; what they use of other people's is their business.
		pkgs:  []string{"/integration/..."},
		allow: list(public, []string{"std", "/integration/mesh"}), // the harness serves the others too
		never: []string{"/cmd/..."},
	},
}

// pure are the packages below the effects: time is a parameter, bytes come as
// slices, and nothing is logged.
var pure = []string{
	"/internal/flattree", "/internal/compact", "/internal/bitfield", "/internal/merkle",
	"/internal/wire", "/internal/muxer", "/internal/replica",
}

// effects are what a pure package must not import.
var effects = list(network, libp2p, datastore, []string{"os/...", "log/...", "syscall"})

// helpers are the packages that are for test files only.
var helpers = []string{"/internal/brittle", "/internal/vectors", "/internal/simnet"}

// owners are the packages that may start goroutines and timers with callbacks.
var owners = []string{"/internal/lifecycle"}

func list(parts ...[]string) []string {
	var all []string
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
