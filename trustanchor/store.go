package trustanchor

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"danepost/resolver/dnssec"
)

// The state file is one line of heading, with the version of the format and
// the SHA-256 of all that follows it, and then JSON.
const (
	stateHeading = "danepost trust anchors"
	stateVersion = 1
	maxStateSize = 1 << 20
)

// saved is the contents of the state file.
type saved struct {
	Source string      `json:"configured"` // see sourceOf
	Clock  time.Time   `json:"clock"`      // a time that is certainly past
	Zones  []savedZone `json:"trust_points"`
}

type savedZone struct {
	Zone         string     `json:"zone"`
	Queried      time.Time  `json:"queried"`
	Succeeded    time.Time  `json:"succeeded"`
	SignatureEnd time.Time  `json:"signature_end"`
	Next         time.Time  `json:"next_query"`
	Failures     int        `json:"failures"`
	Interval     int64      `json:"query_interval"` // seconds
	Retry        int64      `json:"retry_time"`     // seconds
	Keys         []savedKey `json:"keys"`
}

type savedKey struct {
	State  State     `json:"state"`
	Since  time.Time `json:"since"`
	Seen   int       `json:"seen,omitempty"`
	TTL    uint32    `json:"ttl,omitempty"`
	DNSKEY []byte    `json:"dnskey,omitempty"` // RDATA
	DS     *savedDS  `json:"ds,omitempty"`
}

type savedDS struct {
	KeyTag     uint16 `json:"key_tag"`
	Algorithm  uint8  `json:"algorithm"`
	DigestType uint8  `json:"digest_type"`
	Digest     []byte `json:"digest"`
}

// errDamaged is what a state file that cannot be believed makes load return.
var errDamaged = errors.New("damaged")

// store keeps the state in one file. Writers in several processes take turns.
type store struct{ path string }

// load reads the file; nil without error if there is none.
func (s store) load() (*saved, error) {
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxStateSize {
		return nil, fmt.Errorf("%w: it has %d octets", errDamaged, info.Size())
	}
	data := make([]byte, info.Size())
	if _, err := f.ReadAt(data, 0); err != nil && len(data) > 0 {
		return nil, err
	}
	return decodeState(data)
}

// decodeState checks and decodes the file's contents.
func decodeState(data []byte) (*saved, error) {
	heading, body, found := bytes.Cut(data, []byte("\n"))
	words := strings.TrimPrefix(string(heading), stateHeading+" ")
	var version int
	var sum string
	if n, err := fmt.Sscanf(words, "%d sha256:%s", &version, &sum); !found || err != nil || n != 2 || words == string(heading) {
		return nil, fmt.Errorf("%w: its first line is not the heading of a state file", errDamaged)
	}
	if got := sha256.Sum256(body); sum != hex.EncodeToString(got[:]) {
		return nil, fmt.Errorf("%w: its checksum is wrong", errDamaged)
	}
	if version != stateVersion {
		return nil, fmt.Errorf("%w: it has version %d; this program knows version %d", errDamaged, version, stateVersion)
	}
	var out saved
	if err := json.Unmarshal(body, &out); err != nil {
		return nil, fmt.Errorf("%w: %v", errDamaged, err)
	}
	if err := out.check(); err != nil {
		return nil, fmt.Errorf("%w: %v", errDamaged, err)
	}
	return &out, nil
}

// check refuses keys that are none: the checksum only says that the file is
// as it was written.
func (s *saved) check() error {
	for _, z := range s.Zones {
		for _, k := range z.Keys {
			if k.State == Start || len(k.DNSKEY) <= 4 && (k.DS == nil || len(k.DS.Digest) == 0) {
				return fmt.Errorf("a key of zone %q has neither DNSKEY nor DS, or no state", z.Zone)
			}
		}
	}
	return nil
}

// encode renders the file's contents.
func (s *saved) encode() ([]byte, error) {
	body, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return nil, err
	}
	body = append(body, '\n')
	sum := sha256.Sum256(body)
	return append(fmt.Appendf(nil, "%s %d sha256:%x\n", stateHeading, stateVersion, sum), body...), nil
}

// save replaces the file: after a crash at any point there is the old one or
// the new one.
func (s store) save(state *saved) (err error) {
	data, err := state.encode()
	if err != nil {
		return err
	}
	temp := s.path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, s.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// setAside moves the file out of the way and returns its new name.
func (s store) setAside(suffix string) (string, error) {
	name := s.path + suffix
	return name, os.Rename(s.path, name)
}

// lock waits until no other process changes the file.
func (s store) lock() (unlock func() error, err error) {
	f, err := os.OpenFile(s.path+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// freeze and thaw convert between a Set and its form on disk.
func freeze(s *Set) savedZone {
	z := savedZone{
		Zone: s.Zone.String(), Queried: s.Queried, Succeeded: s.Succeeded, SignatureEnd: s.SignatureEnd, Next: s.Next,
		Failures: s.Failures, Interval: int64(s.Interval / time.Second), Retry: int64(s.Retry / time.Second),
	}
	for _, k := range s.Keys {
		key := savedKey{State: k.State, Since: k.Since, Seen: k.Seen, TTL: k.TTL, DNSKEY: k.RDATA}
		if k.DS != nil {
			key.DS = &savedDS{k.DS.KeyTag, k.DS.Algorithm, k.DS.DigestType, k.DS.Digest}
		}
		z.Keys = append(z.Keys, key)
	}
	return z
}

func thaw(z *savedZone) (Set, error) {
	zone, err := dnssec.ParseName(z.Zone)
	if err != nil {
		return Set{}, err
	}
	s := Set{
		Zone: zone, Queried: z.Queried, Succeeded: z.Succeeded, SignatureEnd: z.SignatureEnd, Next: z.Next,
		Failures: z.Failures, Interval: time.Duration(z.Interval) * time.Second, Retry: time.Duration(z.Retry) * time.Second,
	}
	for _, k := range z.Keys {
		key := Key{State: k.State, Since: k.Since, Seen: k.Seen, TTL: k.TTL, RDATA: k.DNSKEY}
		if k.DS != nil {
			key.DS = &dnssec.DS{KeyTag: k.DS.KeyTag, Algorithm: k.DS.Algorithm, DigestType: k.DS.DigestType, Digest: k.DS.Digest}
		}
		s.Keys = append(s.Keys, key)
	}
	return s, nil
}
