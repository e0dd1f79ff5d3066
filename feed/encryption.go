package feed

// Encryption turns blocks into what is stored and replicated, and back.
type Encryption interface {
	Padding() uint64
	Encrypt(index, fork uint64, block []byte) ([]byte, error)
	Decrypt(index uint64, stored []byte) ([]byte, error)
}

// plain stores blocks as they are.
type plain struct{}

func (plain) Padding() uint64                               { return 0 }
func (plain) Encrypt(_, _ uint64, b []byte) ([]byte, error) { return b, nil }
func (plain) Decrypt(_ uint64, b []byte) ([]byte, error)    { return b, nil }

// Plain is no encryption: a session with it reads encrypted blocks as they are stored.
var Plain Encryption = plain{}
