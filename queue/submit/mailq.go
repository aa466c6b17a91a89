package submit

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"danepost/queue"
)

// WriteMailq prints the queue as mailq(1) has always done: a line for each
// message with its id (* being delivered, ! held), size, arrival and sender,
// then the recipients under the reason they wait for, and a summary. Times
// are shown in loc.
func WriteMailq(w io.Writer, list []queue.Summary, loc *time.Location) error {
	b := bufio.NewWriter(w)
	if len(list) == 0 {
		fmt.Fprintln(b, "Mail queue is empty")
		return b.Flush()
	}
	width := len("-Queue ID-") + 1
	for _, s := range list {
		width = max(width, len(s.QueueID)+1)
	}
	fmt.Fprintf(b, "%-*s --Size-- ----Arrival Time---- -Sender/Recipient-------\n", width, "-Queue ID-")
	var bytes int64
	indent := strings.Repeat(" ", width+len(" --Size-- ----Arrival Time---- "))
	for i, s := range list {
		if i > 0 {
			fmt.Fprintln(b)
		}
		bytes += s.MessageSize
		sender := s.Sender
		if sender == "" {
			sender = "MAILER-DAEMON"
		}
		// ctime's order of fields, without the year.
		arrived := time.Unix(s.ArrivalTime, 0).In(loc).Format("Mon Jan _2 15:04:05")
		fmt.Fprintf(b, "%-*s %8d %s   %s\n", width, s.QueueID+mark(s), s.MessageSize, arrived, sender)
		reason := ""
		for _, r := range s.Recipients {
			if r.DelayReason != reason {
				if reason = r.DelayReason; reason != "" {
					text := "(" + oneLine(reason) + ")"
					fmt.Fprintf(b, "%*s\n", max(76, len(text)), text)
				}
			}
			fmt.Fprintf(b, "%s%s\n", indent, r.Address)
		}
	}
	plural := "s"
	if len(list) == 1 {
		plural = ""
	}
	fmt.Fprintf(b, "\n-- %d Kbytes in %d Request%s.\n", (bytes+1023)>>10, len(list), plural)
	return b.Flush()
}

// mark is what stands behind a queue id.
func mark(s queue.Summary) string {
	switch s.QueueName {
	case "active":
		return "*"
	case "hold":
		return "!"
	}
	return ""
}
