package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"danepost/queue"
)

// renderQueue prints the queue for people: a summary, then each message with
// its age, its next attempt, and one line a recipient with the reason in words.
func renderQueue(w io.Writer, list []queue.Summary, now time.Time) {
	if len(list) == 0 {
		fmt.Fprintln(w, "The queue is empty.")
		return
	}
	fmt.Fprintln(w, queueHeadline(list))
	for _, m := range list {
		fmt.Fprintf(w, "\n%s  %s old, %s, from %s, %s\n", m.QueueID, span(now.Sub(time.Unix(m.ArrivalTime, 0))),
			size(m.MessageSize), or(m.Sender == "", "<> (a notice)", m.Sender), nextWords(m, now))
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, r := range m.Recipients {
			fmt.Fprintf(tw, "  to %s\t%s\n", r.Address, recipientWords(r))
		}
		tw.Flush()
	}
}

func queueHeadline(list []queue.Summary) string {
	var total int64
	counts := map[string]int{}
	for _, m := range list {
		total += m.MessageSize
		counts[m.QueueName]++
	}
	var parts []string
	for _, s := range []struct{ name, word string }{
		{"active", "being delivered"}, {"incoming", "new"}, {"deferred", "waiting"}, {"hold", "held"},
	} {
		if n := counts[s.name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s.word))
		}
	}
	return fmt.Sprintf("%s, %s: %s", plural(len(list), "message"), size(total), strings.Join(parts, ", "))
}

func nextWords(m queue.Summary, now time.Time) string {
	switch {
	case m.QueueName == "hold":
		return "held"
	case m.QueueName == "active":
		return "being delivered now"
	case m.NextAttempt == 0:
		return "no attempt planned"
	}
	if wait := time.Unix(m.NextAttempt, 0).Sub(now); wait > 0 {
		return "next attempt in " + span(wait)
	}
	return "due now"
}

func recipientWords(r queue.SummaryRecipient) string {
	text := r.DelayReason
	if r.State == "held" {
		text = "held: " + or(text != "", text, "by the operator")
	}
	if text == "" {
		text = or(r.Attempts == 0, "not tried yet", "waiting")
	}
	if r.Attempts > 0 {
		text += " (" + plural(r.Attempts, "try") + ")"
	}
	return text
}

// renderQueueJSON prints one object a line, Postfix's names.
func renderQueueJSON(w io.Writer, list []queue.Summary) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for i := range list {
		if err := enc.Encode(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

// plural counts a noun in English: 1 message, 2 messages, 3 tries.
func plural(n int, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "y"):
		noun = noun[:len(noun)-1] + "ies"
	default:
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// span writes a duration in its two largest units, as people say it.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < day:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d/day), int(d.Hours())%24)
}

// size writes bytes for people.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// renderDetail prints everything known about one message.
func renderDetail(w io.Writer, d *queue.Detail, now time.Time) {
	renderQueue(w, []queue.Summary{d.Summary}, now)
	fmt.Fprintf(w, "\nstored   %s\nsha256   %s\n", d.Stored, d.Checksum)
	for _, h := range d.History {
		if len(h.Attempts) == 0 {
			continue
		}
		fmt.Fprintf(w, "\nattempts for %s\n", h.Address)
		for _, a := range h.Attempts {
			host := or(a.Host == "", "", "  ["+a.Host+"]")
			fmt.Fprintf(w, "  %s  %s%s\n", a.At.Local().Format(time.DateTime), a.Reason, host)
		}
	}
}
