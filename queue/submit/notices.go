package submit

import "danepost/queue"

// LocalNotices is a queue's handler whose notices reach a mailbox when the
// sender is one of this host: the bounce of root's mail goes where mail for
// root goes. Without that it would be tried at this very host for days.
type LocalNotices struct {
	queue.Handler
	Policy *Policy
}

// Notice implements queue.Handler.
func (l LocalNotices) Notice(item *queue.Item, kind queue.NoticeKind, about []queue.Result) *queue.Notice {
	n := l.Handler.Notice(item, kind, about)
	if n == nil {
		return nil
	}
	var to []queue.Recipient
	for _, r := range n.Envelope.Recipients {
		m, err := ParseSender(r.Address)
		if err != nil || m.Local == "" {
			to = append(to, r)
			continue
		}
		for _, final := range l.Policy.Resolve(m) {
			final.Notify, final.ORcpt = r.Notify, r.ORcpt
			to = append(to, final)
		}
	}
	n.Envelope.Recipients = to
	return n
}
