package deliver

import "danepost/queue"

// Notice composes what the sender is told (RFC 3464).
func (d *Deliverer) Notice(item *queue.Item, kind queue.NoticeKind, about []queue.Result) *queue.Notice {
	return nil
}
