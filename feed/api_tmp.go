package feed

import (
	"context"
	"iter"
	"log/slog"

	datastore "github.com/ipfs/go-datastore"
)

type Signer struct {
	Namespace [32]byte // zero: DefaultNamespace when normalised
	PublicKey [32]byte
}
type Prologue struct {
	Hash   Hash
	Length uint64
}
type Manifest struct {
	Version    int
	AllowPatch bool
	Quorum     int
	Signers    []Signer
	Prologue   *Prologue
	Linked     []Key
	UserData   []byte
}

func ParseManifest(b []byte) (*Manifest, error) { panic("soon") }
func (m *Manifest) Append(b []byte) []byte      { panic("soon") }
func (m *Manifest) Key() Key                    { panic("soon") }
func DefaultManifest(public [32]byte) *Manifest { panic("soon") }

type Options struct {
	Prefix         string // where in the datastore: "/%08x"; the feed touches nothing outside it
	Key            *Key   // what is known of the identity: any of the three, they must agree
	Manifest       *Manifest
	KeyPair        *KeyPair
	Also           func(ctx context.Context, b datastore.Batch) error // Create: puts that commit with the feed's first record
	NoSync         bool
	Space          func() error
	CacheNodePages int
	Logger         *slog.Logger
}
type Feed struct{}

func Open(ctx context.Context, ds datastore.Batching, opts Options) (*Feed, error)    { panic("soon") }
func Create(ctx context.Context, ds datastore.Batching, opts Options) (*Feed, error)  { panic("soon") }
func (f *Feed) Key() Key                                                              { panic("soon") }
func (f *Feed) DiscoveryKey() DiscoveryKey                                            { panic("soon") }
func (f *Feed) Info() Info                                                            { panic("soon") }
func (f *Feed) Manifest() *Manifest                                                   { panic("soon") }
func (f *Feed) ManifestBytes() []byte                                                 { panic("soon") }
func (f *Feed) Close() error                                                          { panic("soon") }
func (f *Feed) Session(o SessionOptions) (*Session, error)                            { panic("soon") }
func (f *Feed) Has(r Range) bool                                                      { panic("soon") }
func (f *Feed) Ranges(r Range) iter.Seq[Range]                                        { panic("soon") }
func (f *Feed) FirstMissing(from uint64) uint64                                       { panic("soon") }
func (f *Feed) Plan(ctx context.Context, blocks []uint64) (nodes []uint64, err error) { panic("soon") }
func (f *Feed) CanUpgrade(ctx context.Context, length uint64) (bool, error)           { panic("soon") }
func (f *Feed) Prove(ctx context.Context, reqs []Request) ([]Proved, error)           { panic("soon") }
func (f *Feed) Apply(ctx context.Context, ps []*Proof) ([]Applied, error)             { panic("soon") }
func (f *Feed) Subscribe() *Subscription                                              { panic("soon") }
func (f *Feed) SubscribeFunc(wake func()) *Subscription                               { panic("soon") }
func (f *Feed) SetSource(s Source)                                                    { panic("soon") }
func (f *Feed) Source() Source                                                        { panic("soon") }
func (f *Feed) Check(ctx context.Context) error                                       { panic("soon") }
func (f *Feed) DiskBytes(ctx context.Context) (uint64, error)                         { panic("soon") }

type Subscription struct{}

func (s *Subscription) Next(ctx context.Context) (Change, error) { panic("soon") }
func (s *Subscription) Take() (Change, bool)                     { panic("soon") }
func (s *Subscription) Close()                                   { panic("soon") }

type SessionOptions struct {
	KeyPair  *KeyPair // signs for this session; nil: the feed's own, if stored
	ReadOnly bool
	OnClose  func() // called once, by the Close that ends the session
}
type ReadOptions struct {
	Local  bool // only what is stored; a missing block ends with ErrNotAvailable
	Follow bool // go on past the end as the feed grows
}
type Session struct{}

func (s *Session) Key() Key                                                   { panic("soon") }
func (s *Session) DiscoveryKey() DiscoveryKey                                 { panic("soon") }
func (s *Session) Info() Info                                                 { panic("soon") }
func (s *Session) Feed() *Feed                                                { panic("soon") }
func (s *Session) Append(ctx context.Context, blocks ...[]byte) (Info, error) { panic("soon") }
func (s *Session) Get(ctx context.Context, index uint64) ([]byte, error)      { panic("soon") }
func (s *Session) GetLocal(ctx context.Context, index uint64) ([]byte, error) { panic("soon") }
func (s *Session) Has(index uint64) bool                                      { panic("soon") }
func (s *Session) Blocks(ctx context.Context, r Range, o ReadOptions) iter.Seq2[[]byte, error] {
	panic("soon")
}
func (s *Session) Download(ctx context.Context, r Range) error { panic("soon") }
func (s *Session) Update(ctx context.Context) (bool, error)    { panic("soon") }
func (s *Session) Seek(ctx context.Context, byteOffset uint64) (index, offset uint64, err error) {
	panic("soon")
}
func (s *Session) Close() error { panic("soon") }

type CheckError struct {
	Damages []Damage
	More    int
}
type Damage struct {
	What  string
	Index uint64
	Err   error
}

func (e *CheckError) Error() string { panic("soon") }
func (e *CheckError) Unwrap() error { return ErrCorrupt }
