package feed

import (
	"context"
	"iter"
)

func (f *Feed) Session(o SessionOptions) (*Session, error)                            { panic("soon") }
func (f *Feed) Plan(ctx context.Context, blocks []uint64) (nodes []uint64, err error) { panic("soon") }
func (f *Feed) CanUpgrade(ctx context.Context, length uint64) (bool, error)           { panic("soon") }
func (f *Feed) Prove(ctx context.Context, reqs []Request) ([]Proved, error)           { panic("soon") }
func (f *Feed) Apply(ctx context.Context, ps []*Proof) ([]Applied, error)             { panic("soon") }
func (f *Feed) Check(ctx context.Context) error                                       { panic("soon") }

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

func (s *Session) end() {}
