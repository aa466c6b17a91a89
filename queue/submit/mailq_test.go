package submit

import (
	"strings"
	"testing"
	"time"

	"danepost/queue"
)

func TestWriteMailq(t *testing.T) {
	at := time.Date(2026, 11, 7, 9, 5, 0, 0, time.UTC).Unix()
	tests := []struct {
		name string
		list []queue.Summary
		want string
	}{
		{"empty", nil, "Mail queue is empty\n"},
		{"one", []queue.Summary{{QueueName: "incoming", QueueID: "BCDF1", ArrivalTime: at, MessageSize: 500, Recipients: []queue.SummaryRecipient{{Address: "b@example.net"}}}}, `
-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------
BCDF1            500 Sat Nov  7 09:05:00   MAILER-DAEMON
                                          b@example.net

-- 1 Kbytes in 1 Request.
`},
		{"marks and reasons", []queue.Summary{
			{QueueName: "active", QueueID: "BCDFGHJKLMNP", ArrivalTime: at, MessageSize: 2048, Sender: "a@example.org", Recipients: []queue.SummaryRecipient{{Address: "b@example.net"}}},
			{QueueName: "hold", QueueID: "BCDFGHJKLMNQ", ArrivalTime: at, MessageSize: 1, Sender: "a@example.org", Recipients: []queue.SummaryRecipient{
				{Address: "c@example.net", DelayReason: "no\nroute"}, {Address: "d@example.net", DelayReason: "no\nroute"}, {Address: "e@example.net", DelayReason: "late"}}},
		}, `
-Queue ID-    --Size-- ----Arrival Time---- -Sender/Recipient-------
BCDFGHJKLMNP*     2048 Sat Nov  7 09:05:00   a@example.org
                                            b@example.net

BCDFGHJKLMNQ!        1 Sat Nov  7 09:05:00   a@example.org
                                                                   (noroute)
                                            c@example.net
                                            d@example.net
                                                                      (late)
                                            e@example.net

-- 3 Kbytes in 2 Requests.
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			if err := WriteMailq(&b, tt.list, time.UTC); err != nil {
				t.Fatal(err)
			}
			if got, want := b.String(), strings.TrimPrefix(tt.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
