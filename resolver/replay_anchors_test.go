package resolver_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"danepost/internal/lab/replay"
	"danepost/resolver/dnssec"
	"danepost/trustanchor"
)

// tracked runs the trust anchors of AUTOTRUST_FILE blocks through package
// trustanchor, with a state file that is written and read as on a host.
type tracked struct {
	s      *subject
	dir    string
	files  []anchorFile
	keeper *trustanchor.Keeper
	ctx    context.Context
	cancel context.CancelFunc
}

// anchorFile is one AUTOTRUST_FILE block.
type anchorFile struct {
	name       string
	zone       dnssec.Name
	initial    *replay.AnchorState
	withStates bool
}

// newTracked returns nil for a scenario without such blocks.
func newTracked(scenario *replay.Scenario, s *subject) (*tracked, error) {
	t := &tracked{s: s}
	var configured []trustanchor.Configured
	for _, f := range scenario.Files {
		if !f.Autotrust {
			continue
		}
		file, keys, err := readAnchorFile(f)
		if err != nil {
			return nil, err
		}
		t.files = append(t.files, file)
		configured = append(configured, keys...)
	}
	if len(t.files) == 0 {
		return nil, nil
	}
	var err error
	if t.dir, err = os.MkdirTemp("", "anchors"); err != nil {
		return nil, err
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	config, err := t.config(configured)
	if err == nil {
		t.keeper, err = trustanchor.Open(config)
	}
	return t, err
}

func (t *tracked) path() string { return filepath.Join(t.dir, "anchors") }

// config makes the keys of the files the configured ones and, where the files have
// states, writes these as the state file.
func (t *tracked) config(configured []trustanchor.Configured) (trustanchor.Config, error) {
	config := trustanchor.Config{
		Configured: configured,
		Rules:      t.s.rules,
		Fetch: func(ctx context.Context, zone dnssec.Name) (*dnssec.RRset, error) {
			return t.s.resolver.RawDNSKEY(ctx, zone)
		},
		Now:    t.s.now,
		Built:  time.Unix(0, 0),
		Random: func() float64 { return 0.5 },
		Log:    slog.New(slog.NewTextHandler(noteWriter{t.s.player.Network}, nil)),
	}
	bare, err := trustanchor.Open(config)
	if err != nil {
		return config, err
	}
	state := stateFile{Configured: bare.Status().Source}
	for _, f := range t.files {
		if f.withStates {
			state.TrustPoints = append(state.TrustPoints, f.part())
		}
	}
	if len(state.TrustPoints) > 0 {
		if err := t.write(state); err != nil {
			return config, err
		}
	}
	config.Path = t.path()
	return config, nil
}

// readAnchorFile returns a block and the keys to be configured: all that it lists. A
// state that it gives them counts more.
func readAnchorFile(f replay.File) (anchorFile, []trustanchor.Configured, error) {
	out := anchorFile{name: f.Name}
	var err error
	if out.initial, err = replay.ParseAnchorState(f.Lines); err != nil {
		return out, nil, err
	}
	if len(out.initial.Keys) == 0 {
		return out, nil, fmt.Errorf("no key in the trust anchor file %s", f.Name)
	}
	if out.zone, err = dnssec.ParseName(out.initial.Keys[0].RR.Name); err != nil {
		return out, nil, err
	}
	var rrs []replay.RR
	for _, k := range out.initial.Keys {
		out.withStates = out.withStates || k.State != ""
		rr := k.RR
		if rr.Type == dns.TypeDNSKEY {
			rr.Data = slices.Clone(rr.Data)
			rr.Data[1] &^= dns.REVOKE
		}
		rrs = append(rrs, rr)
	}
	if !out.withStates {
		configured, err := trustanchor.Parse(f.Name, []byte(strings.Join(f.Lines, "\n")))
		return out, configured, err
	}
	anchors, err := anchorsOf(rrs)
	var configured []trustanchor.Configured
	for _, a := range anchors {
		configured = append(configured, trustanchor.Configured{Anchor: a})
	}
	return out, configured, err
}

// noteWriter puts what is logged among what is exchanged.
type noteWriter struct{ network *replay.Network }

func (w noteWriter) Write(line []byte) (int, error) {
	w.network.Note("%s", bytes.TrimSpace(line))
	return len(line), nil
}

func (t *tracked) anchors() []dnssec.Anchor {
	if t == nil {
		return nil
	}
	return t.keeper.Anchors()
}

func (t *tracked) close() error {
	if t == nil {
		return nil
	}
	t.cancel()
	return os.RemoveAll(t.dir)
}

// ClockMoved starts the queries that are due, as the keeper's timer would.
func (s *subject) ClockMoved() {
	if s.tracked != nil {
		go func() {
			if err := s.tracked.keeper.RefreshDue(s.tracked.ctx); err != nil {
				s.player.Network.Note("trust anchors: %v", err)
			}
		}()
	}
}

// NextTimer is the time until the keeper asks again.
func (s *subject) NextTimer() time.Duration {
	if s.tracked == nil {
		return 0
	}
	var next time.Duration
	for _, z := range s.tracked.keeper.Status().TrustPoint {
		if left := z.NextQuery.Sub(s.now()); !z.NextQuery.IsZero() && (next == 0 || left < next) {
			next = left
		}
	}
	return next
}

// stateFile is the documented form of the keeper's state.
type stateFile struct {
	Configured  string      `json:"configured"`
	Clock       time.Time   `json:"clock"`
	TrustPoints []statePart `json:"trust_points"`
}

type statePart struct {
	Zone      string     `json:"zone"`
	Queried   time.Time  `json:"queried"`
	Succeeded time.Time  `json:"succeeded"`
	Next      time.Time  `json:"next_query"`
	Failures  int        `json:"failures"`
	Interval  int64      `json:"query_interval"`
	Retry     int64      `json:"retry_time"`
	Keys      []stateKey `json:"keys"`
}

type stateKey struct {
	State  string    `json:"state"`
	Since  time.Time `json:"since"`
	Seen   int       `json:"seen"`
	TTL    uint32    `json:"ttl"`
	DNSKEY []byte    `json:"dnskey,omitempty"`
	DS     *stateDS  `json:"ds,omitempty"`
}

type stateDS struct {
	KeyTag     uint16 `json:"key_tag"`
	Algorithm  uint8  `json:"algorithm"`
	DigestType uint8  `json:"digest_type"`
	Digest     []byte `json:"digest"`
}

// record is the key as a record of its zone.
func (k *stateKey) record(zone string) replay.RR {
	rr := replay.RR{Name: strings.ToLower(zone), Type: dns.TypeDNSKEY, Class: dns.ClassINET, TTL: k.TTL, Data: k.DNSKEY}
	if k.DNSKEY == nil && k.DS != nil {
		rr.Type = dns.TypeDS
		rr.Data = append([]byte{byte(k.DS.KeyTag >> 8), byte(k.DS.KeyTag), k.DS.Algorithm, k.DS.DigestType}, k.DS.Digest...)
	}
	return rr
}

// stateWords translates the states of testbound's files.
var stateWords = map[string]string{
	"ADDPEND": "add-pending", "VALID": "valid", "MISSING": "missing", "REVOKED": "revoked", "REMOVED": "removed",
}

// part is testbound's state as the keeper's.
func (f *anchorFile) part() statePart {
	initial := f.initial
	out := statePart{
		Zone: f.zone.String(), Queried: at(initial.LastQueried), Succeeded: at(initial.LastSuccess),
		Next: at(initial.NextProbe), Failures: initial.QueryFailed, Interval: initial.QueryInterval, Retry: initial.RetryTime,
	}
	for _, k := range initial.Keys {
		out.Keys = append(out.Keys, stateKey{
			State: stateWords[k.State], Since: at(k.LastChange), Seen: k.Count, TTL: k.RR.TTL, DNSKEY: k.RR.Data,
		})
	}
	return out
}

func (t *tracked) write(state stateFile) error {
	body, err := json.Marshal(state)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("danepost trust anchors 1 sha256:%x\n%s", sha256.Sum256(body), body)
	return os.WriteFile(t.path(), []byte(text), 0o600)
}

// AnchorState reads the keeper's state file.
func (s *subject) AnchorState(name string) (*replay.AnchorState, error) {
	if s.tracked == nil {
		return nil, errors.New("no trust anchor is tracked")
	}
	data, err := os.ReadFile(s.tracked.path())
	if errors.Is(err, os.ErrNotExist) {
		return s.tracked.untouched(name)
	}
	if err != nil {
		return nil, err
	}
	_, body, _ := bytes.Cut(data, []byte("\n"))
	var state stateFile
	if err := json.Unmarshal(body, &state); err != nil {
		return nil, err
	}
	for _, f := range s.tracked.files {
		for _, z := range state.TrustPoints {
			if f.name == name && z.Zone == f.zone.String() {
				return z.testbound(), nil
			}
		}
	}
	return nil, fmt.Errorf("no trust point for the file %s", name)
}

// untouched is what testbound's file still holds while nothing was learned.
func (t *tracked) untouched(name string) (*replay.AnchorState, error) {
	for _, f := range t.files {
		if f.name == name {
			return f.initial, nil
		}
	}
	return nil, fmt.Errorf("no trust anchor file %s", name)
}

// testbound is the keeper's state in testbound's terms.
func (z *statePart) testbound() *replay.AnchorState {
	out := &replay.AnchorState{
		Zone: z.Zone, LastQueried: seconds(z.Queried), LastSuccess: seconds(z.Succeeded), NextProbe: seconds(z.Next),
		QueryFailed: z.Failures, QueryInterval: z.Interval, RetryTime: z.Retry, AllRevoked: true,
	}
	for _, k := range z.Keys {
		word := ""
		for theirs, ours := range stateWords {
			if ours == k.State {
				word = theirs
			}
		}
		if word == "VALID" || word == "MISSING" {
			out.AllRevoked = false
		}
		if word == "REMOVED" {
			continue // testbound forgets these; we do not, but never use them
		}
		out.Keys = append(out.Keys, replay.AnchorKey{
			RR:    k.record(z.Zone),
			State: word, Count: k.Seen, LastChange: seconds(k.Since),
		})
	}
	return out
}

func at(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
