package trustanchor

import "time"

// Status is what `danepost anchor status` shows. Times are zero where there
// was no such event.
type Status struct {
	Source     string       `json:"source"` // "built-in", or the hash of the configured set
	StateFile  string       `json:"state_file,omitempty"`
	Ready      bool         `json:"ready"`
	NotReady   string       `json:"not_ready,omitempty"` // why, in words
	TrustPoint []ZoneStatus `json:"trust_points"`
}

// ZoneStatus is one trust point.
type ZoneStatus struct {
	Zone         string      `json:"zone"`
	Keys         []KeyStatus `json:"keys"`
	LastQuery    time.Time   `json:"last_query,omitzero"`
	LastSuccess  time.Time   `json:"last_success,omitzero"`
	NextQuery    time.Time   `json:"next_query,omitzero"`
	Failures     int         `json:"failures"`
	AllRevoked   bool        `json:"all_revoked"`
	IntervalSecs int64       `json:"query_interval_seconds,omitempty"`
	RetrySecs    int64       `json:"retry_seconds,omitempty"`
}

// KeyStatus is one key of a trust point.
type KeyStatus struct {
	Tag          uint16    `json:"key_tag"`
	Algorithm    uint8     `json:"algorithm"`
	State        State     `json:"state"`
	Trusted      bool      `json:"trusted"`
	Seen         bool      `json:"seen"` // false: only its DS is known
	Since        time.Time `json:"since,omitzero"`
	HoldDownEnd  time.Time `json:"hold_down_end,omitzero"`
	HoldDownLeft int64     `json:"hold_down_left_seconds,omitempty"`
}

// Status describes the anchors as they stand.
func (k *Keeper) Status() Status {
	out := Status{Source: k.source, StateFile: k.c.Path, Ready: true}
	if err := k.Ready(); err != nil {
		out.Ready, out.NotReady = false, err.Error()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.c.Now()
	for i := range k.sets {
		s := &k.sets[i]
		z := ZoneStatus{
			Zone: s.Zone.String(), LastQuery: s.Queried, LastSuccess: s.Succeeded, NextQuery: s.Next, Failures: s.Failures,
			AllRevoked: s.AllRevoked(), IntervalSecs: int64(s.Interval / time.Second), RetrySecs: int64(s.Retry / time.Second),
		}
		for j := range s.Keys {
			z.Keys = append(z.Keys, k.keyStatus(s, &s.Keys[j], now))
		}
		out.TrustPoint = append(out.TrustPoint, z)
	}
	return out
}

func (k *Keeper) keyStatus(s *Set, key *Key, now time.Time) KeyStatus {
	out := KeyStatus{
		Tag: key.Tag(), Algorithm: key.Algorithm(), State: key.State, Since: key.Since, Seen: key.RDATA != nil,
		Trusted:     key.State.trusted() && k.inPeriod(key.anchor(s.Zone), now),
		HoldDownEnd: key.HoldDownEnd(),
	}
	if left := out.HoldDownEnd.Sub(now); !out.HoldDownEnd.IsZero() && left > 0 {
		out.HoldDownLeft = int64(left / time.Second)
	}
	return out
}
