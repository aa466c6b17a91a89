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
	keeper *trustanchor.Keeper
	ctx    context.Context
	cancel context.CancelFunc
}

// newTracked returns nil for a scenario without such blocks.
func newTracked(scenario *replay.Scenario, s *subject) (*tracked, error) {
	var initial *replay.AnchorState
	var lines []string
	for _, f := range scenario.Files {
		if !f.Autotrust {
			continue
		}
		if initial != nil {
			return nil, errors.New("more than one AUTOTRUST_FILE")
		}
		var err error
		lines = f.Lines
		if initial, err = replay.ParseAnchorState(f.Lines); err != nil {
			return nil, err
		}
	}
	if initial == nil {
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "anchors")
	if err != nil {
		return nil, err
	}
	t := &tracked{s: s, dir: dir}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	config, err := t.config(initial, lines)
	if err == nil {
		t.keeper, err = trustanchor.Open(config)
	}
	return t, err
}

func (t *tracked) path() string { return filepath.Join(t.dir, "anchors") }

// config makes the keys of the initial file the configured ones and, where
// it has states, writes them as the state file.
func (t *tracked) config(initial *replay.AnchorState, lines []string) (trustanchor.Config, error) {
	configured, withStates, err := configuredKeys(lines, initial)
	if err != nil {
		return trustanchor.Config{}, err
	}
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
	if withStates {
		bare, err := trustanchor.Open(config)
		if err != nil {
			return config, err
		}
		if err := t.write(initial, bare.Status().Source); err != nil {
			return config, err
		}
	}
	config.Path = t.path()
	return config, nil
}

// configuredKeys are those of the initial file: all that it lists, or, where
// it has states, the trusted ones.
func configuredKeys(lines []string, initial *replay.AnchorState) (out []trustanchor.Configured, withStates bool, err error) {
	var trusted []replay.RR
	for _, k := range initial.Keys {
		withStates = withStates || k.State != ""
		if k.State == "VALID" || k.State == "MISSING" {
			trusted = append(trusted, k.RR)
		}
	}
	if !withStates {
		out, err = trustanchor.Parse("autotrust", []byte(strings.Join(lines, "\n")))
		return out, false, err
	}
	anchors, err := anchorsOf(trusted)
	for _, a := range anchors {
		out = append(out, trustanchor.Configured{Anchor: a})
	}
	return out, true, err
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
	for _, z := range s.tracked.keeper.Status().TrustPoint {
		if !z.NextQuery.IsZero() {
			return z.NextQuery.Sub(s.now())
		}
	}
	return 0
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
	DNSKEY []byte    `json:"dnskey"`
}

// stateWords translates the states of testbound's files.
var stateWords = map[string]string{
	"ADDPEND": "add-pending", "VALID": "valid", "MISSING": "missing", "REVOKED": "revoked", "REMOVED": "removed",
}

// write stores testbound's state as the keeper's.
func (t *tracked) write(initial *replay.AnchorState, configured string) error {
	part := statePart{
		Zone: initial.Keys[0].RR.Name, Queried: at(initial.LastQueried), Succeeded: at(initial.LastSuccess),
		Next: at(initial.NextProbe), Failures: initial.QueryFailed, Interval: initial.QueryInterval, Retry: initial.RetryTime,
	}
	for _, k := range initial.Keys {
		part.Keys = append(part.Keys, stateKey{stateWords[k.State], at(k.LastChange), k.Count, k.RR.TTL, k.RR.Data})
	}
	body, err := json.Marshal(stateFile{Configured: configured, TrustPoints: []statePart{part}})
	if err != nil {
		return err
	}
	text := fmt.Sprintf("danepost trust anchors 1 sha256:%x\n%s", sha256.Sum256(body), body)
	return os.WriteFile(t.path(), []byte(text), 0o600)
}

// AnchorState reads the keeper's state file.
func (s *subject) AnchorState(string) (*replay.AnchorState, error) {
	if s.tracked == nil {
		return nil, errors.New("no trust anchor is tracked")
	}
	data, err := os.ReadFile(s.tracked.path())
	if err != nil {
		return nil, err
	}
	_, body, _ := bytes.Cut(data, []byte("\n"))
	var state stateFile
	if err := json.Unmarshal(body, &state); err != nil {
		return nil, err
	}
	if len(state.TrustPoints) != 1 {
		return nil, fmt.Errorf("%d trust points in the state file", len(state.TrustPoints))
	}
	z := state.TrustPoints[0]
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
			RR:    replay.RR{Name: strings.ToLower(z.Zone), Type: dns.TypeDNSKEY, Class: dns.ClassINET, TTL: k.TTL, Data: k.DNSKEY},
			State: word, Count: k.Seen, LastChange: seconds(k.Since),
		})
	}
	return out, nil
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
