package trustanchor

import (
	"fmt"
	"log/slog"
	"time"

	"danepost/resolver/dnssec"
)

// EventKind says what an Event is about.
type EventKind uint8

const (
	Changed    EventKind = iota // a key changed its state
	Unverified                  // an answer was not signed by any trusted key
)

// Event is something that an administrator may want to know.
type Event struct {
	Kind      EventKind
	Zone      dnssec.Name
	At        time.Time
	Tag       uint16
	From, To  State
	Until     time.Time // end of the hold-down of To, where it has one
	LastValid bool      // no trusted key is left
}

// String says it in words.
func (e Event) String() string {
	key := fmt.Sprintf("%s key %d", zoneWord(e.Zone), e.Tag)
	if e.Kind == Unverified {
		return fmt.Sprintf("the answer to a query for the %s keys was not signed by a trusted key; nothing changed", zoneWord(e.Zone))
	}
	text := ""
	switch e.To {
	case AddPend:
		return fmt.Sprintf("new %s seen, trusted from %s unless withdrawn", key, day(e.Until))
	case Start:
		text = "was withdrawn before it was trusted"
	case Valid:
		text = "is trusted now"
		if e.From == Missing {
			text = "is back"
		}
	case Missing:
		text = "is no longer published; it stays trusted"
	case Revoked:
		text = "is revoked by its owner and no longer trusted"
	case Removed:
		text = "is forgotten: it has been revoked and gone long enough"
		if e.From == Missing {
			text = fmt.Sprintf("is no longer trusted: it has not been published for %d days", int(keepMissing.Hours()/24))
		}
	}
	if e.LastValid {
		text += "; no trusted key is left, and look-ups stay indeterminate until a trust anchor is configured"
	}
	return key + " " + text
}

// Level is how loudly the event is logged.
func (e Event) Level() slog.Level {
	switch {
	case e.LastValid:
		return slog.LevelError
	case e.Kind == Unverified, e.To == Revoked:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func zoneWord(zone dnssec.Name) string {
	if zone == dnssec.Root {
		return "root"
	}
	return zone.String()
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
