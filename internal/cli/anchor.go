package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"danepost/queue/submit"
	"danepost/trustanchor"
)

// runAnchor is `danepost anchor status|refresh`.
func runAnchor(inv *invocation, args []string) error {
	fs := inv.flags("anchor")
	asJSON := fs.Bool("json", false, "print one JSON object")
	if err := inv.parse(fs, args); err != nil {
		return err
	}
	verb := fs.Arg(0)
	if fs.NArg() != 1 || verb != "status" && verb != "refresh" {
		return usageError("usage: danepost anchor status|refresh")
	}
	c, err := inv.config()
	if err != nil {
		return err
	}
	if verb == "refresh" {
		if err := makeState(c); err != nil {
			return err
		}
	}
	n, err := openNames(c, newLog(inv.Err, c.Log))
	if err != nil {
		return err
	}
	defer n.Close()
	if verb == "refresh" {
		ctx, stop := untilSignal()
		defer stop()
		if err := n.anchors.Refresh(ctx); err != nil {
			return &submit.Error{Code: submit.ExitTempFail, Text: "anchors not refreshed", Err: err}
		}
	}
	st := n.anchors.Status()
	if *asJSON {
		return json.NewEncoder(inv.Out).Encode(st)
	}
	renderAnchors(inv.Out, st, time.Now())
	return nil
}

// renderAnchors prints the anchors for people: each zone's keys with what
// they are worth, since when, and what will happen next.
func renderAnchors(w io.Writer, st trustanchor.Status, now time.Time) {
	s := newScreen(w)
	s.line("Trust anchors: %s", or(st.Source == "built-in", "the IANA root keys built into this program", "from the configuration"))
	if !st.Ready {
		s.line("Not in use: %s", st.NotReady)
	}
	for _, z := range st.TrustPoint {
		s.line("")
		s.line("Zone %s  %s", z.Zone, queryWords(z, now))
		if z.AllRevoked {
			s.line("  every key is revoked: nothing below can be verified until a new anchor is configured")
		}
		var rows [][]cell
		for _, k := range z.Keys {
			t := or(k.Trusted, "trusted", "not trusted")
			rows = append(rows, []cell{
				toned(keyTone(k), t), text(fmt.Sprintf("key %d", k.Tag)), text(algorithmWord(k.Algorithm)), text(keyStory(k, now)),
			})
		}
		s.table("  ", rows)
	}
}

func keyTone(k trustanchor.KeyStatus) tone {
	if k.Trusted {
		return good
	}
	return warn
}

// keyStory says in words where a key stands (RFC 5011 §4.2).
func keyStory(k trustanchor.KeyStatus, now time.Time) string {
	story := k.State.String()
	if !k.Seen {
		story += ", not seen in the zone yet"
	}
	if !k.Since.IsZero() {
		story += ", since " + k.Since.UTC().Format(time.DateOnly)
	}
	if k.HoldDownLeft > 0 {
		story += fmt.Sprintf(", changes in %s unless it is withdrawn", span(time.Duration(k.HoldDownLeft)*time.Second))
	}
	return story
}

func queryWords(z trustanchor.ZoneStatus, now time.Time) string {
	last := "not asked yet"
	if !z.LastSuccess.IsZero() {
		last = "last verified " + span(now.Sub(z.LastSuccess)) + " ago"
	}
	if z.NextQuery.After(now) {
		last += ", next query in " + span(z.NextQuery.Sub(now))
	}
	if z.Failures > 0 {
		last += fmt.Sprintf(", %s failed since", plural(z.Failures, "query"))
	}
	return last
}
