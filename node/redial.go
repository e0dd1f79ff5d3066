package node

import "time"

// redial is how it went with a peer of late, and so how long to wait before the next attempt. It has no clock and does no
// I/O. It is the owner's to lock.
//
// Only attempts that fail in a row make the pause longer, since a peer that does not answer now and then is no reason to wait
// for one that has just restarted. Streams that end soon after they are up have a pause of their own, so that a peer that
// takes every stream and ends it is not asked without a pause.
type redial struct {
	fails int       // attempts that have failed in a row
	short int       // streams in a row that ended before they had settled
	seen  time.Time // when the last stream ended; zero if there was none
}

// failed books an attempt that has failed at now and returns the pause before the next one: redialMin, which doubles to
// redialMax, or to returnMax if the peer was there not long ago.
func (r *redial) failed(now time.Time) time.Duration {
	r.fails++
	most := redialMax
	if !r.seen.IsZero() && now.Sub(r.seen) < returnTime {
		most = returnMax
	}
	return min(redialMin<<min(r.fails-1, 16), most)
}

// ended books a stream that has lasted so long and ended at now, and returns the pause before the next attempt. It is 0 for
// one that had settled and for the first that had not, and doubles from redialMin to returnMax for more in a row.
func (r *redial) ended(now time.Time, lasted time.Duration) time.Duration {
	r.fails, r.seen = 0, now
	r.short++
	if lasted >= settled {
		r.short = 0
	}
	if r.short <= 1 {
		return 0
	}
	return min(redialMin<<min(r.short-2, 16), returnMax)
}

// anew forgets failures: the peer has called, or the network is another one.
func (r *redial) anew() { r.fails, r.short = 0, 0 }

// hopeless tells whether a peer that nobody has named by hand may be forgotten.
func (r *redial) hopeless() bool { return r.fails+r.short >= forgetAfter }
