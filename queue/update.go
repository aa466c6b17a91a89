package queue

import (
	"bytes"
	"errors"

	bolt "go.etcd.io/bbolt"
)

// update is one recipient's new record, or its end.
type update struct {
	id    string
	index int
	was   []byte // the record this follows from
	now   []byte // nil: it has ended
}

// errChanged says that a record is not what an update was computed from.
var errChanged = errors.New("changed meanwhile")

// settle commits updates and the notices that belong to them, both or
// neither. It returns the messages that have ended and whose content is a
// file. An update whose record changed meanwhile fails the whole with
// errChanged.
func (s *store) settle(updates []update, notices []*entry, count func(*RunRecord)) (files []string, err error) {
	err = s.commit.do(func(tx *bolt.Tx) error {
		files = files[:0]
		for _, u := range updates {
			if err := applyUpdate(tx, u); err != nil {
				return err
			}
		}
		for _, u := range updates {
			file, err := endMessage(tx, u.id)
			if err != nil {
				return err
			}
			if file {
				files = append(files, u.id)
			}
		}
		for _, n := range notices {
			if err := putEntry(tx, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	count(&s.state.Run)
	s.mu.Unlock()
	return files, nil
}

func applyUpdate(tx *bolt.Tx, u update) error {
	b := bucket(tx, bucketMessages)
	key := recipientKey(u.id, u.index)
	if !bytes.Equal(b.Get(key), u.was) {
		return errChanged
	}
	if u.now == nil {
		return b.Delete(key)
	}
	return b.Put(key, u.now)
}

// endMessage deletes a message that has no recipients left and says whether
// it leaves a file.
func endMessage(tx *bolt.Tx, id string) (file bool, err error) {
	b := bucket(tx, bucketMessages)
	c := b.Cursor()
	k, v := c.Seek([]byte(id))
	if string(k) != id {
		return false, nil // ended by an update before
	}
	m, _ := decodeMessage(v)
	if k, _ := c.Next(); isRecipientOf(k, id) {
		return false, nil
	}
	if err := b.Delete([]byte(id)); err != nil {
		return false, err
	}
	if b.Bucket(contentBucket(id)) == nil {
		return m.InFile, nil
	}
	return m.InFile, b.DeleteBucket(contentBucket(id))
}
