package replay

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// AnchorState is what testbound's trust anchor files say about a zone
// (RFC 5011 §4). Times are seconds on the scenario's clock.
type AnchorState struct {
	Zone          string
	AllRevoked    bool
	LastQueried   int64
	LastSuccess   int64
	NextProbe     int64
	QueryFailed   int
	QueryInterval int64
	RetryTime     int64
	Keys          []AnchorKey
}

// AnchorKey is one key with its state: ADDPEND, VALID, MISSING, REVOKED,
// REMOVED, or "" in a file that only lists keys.
type AnchorKey struct {
	RR         RR // a DNSKEY, or a DS in an initial file
	State      string
	Count      int
	LastChange int64
}

// anchorStates are the words for the numbers of states in such files.
var anchorStates = [...]string{"START", "ADDPEND", "VALID", "MISSING", "REVOKED", "REMOVED"}

// ParseAnchorState reads the lines of a trust anchor file: one with states as
// written by Unbound, or plain DNSKEY and DS lines.
func ParseAnchorState(lines []string) (*AnchorState, error) {
	s := &AnchorState{}
	for i, line := range lines {
		line = strings.TrimSpace(line)
		var err error
		switch {
		case line == ";;REVOKED":
			s.AllRevoked = true
		case strings.HasPrefix(line, ";;"):
			err = s.header(line[2:])
		case line == "" || line[0] == ';' || line[0] == '#':
		default:
			err = s.key(line)
		}
		if err != nil {
			return nil, fmt.Errorf("trust anchor file, line %d: %w", i+1, err)
		}
	}
	return s, nil
}

// header reads "name: value ;;comment".
func (s *AnchorState) header(line string) error {
	name, value, found := strings.Cut(line, ":")
	if !found {
		return fmt.Errorf("unknown line %q", line)
	}
	value, _, _ = strings.Cut(value, ";;")
	value = strings.TrimSpace(value)
	if name == "id" {
		s.Zone, _, _ = strings.Cut(value, " ")
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	switch name {
	case "last_queried":
		s.LastQueried = n
	case "last_success":
		s.LastSuccess = n
	case "next_probe_time":
		s.NextProbe = n
	case "query_failed":
		s.QueryFailed = int(n)
	case "query_interval":
		s.QueryInterval = n
	case "retry_time":
		s.RetryTime = n
	default:
		return fmt.Errorf("unknown line %q", line)
	}
	return nil
}

// key reads "record ;{id = ..} ;;state=2 [  VALID  ] ;;count=0 ;;lastchange=1 ;;ctime".
func (s *AnchorState) key(line string) error {
	rest, comments, _ := strings.Cut(line, ";;")
	record, _ := logicalLine([]string{rest}, 0)
	rr, err := parseRecord("", record)
	if err != nil {
		return err
	}
	k := AnchorKey{RR: rr}
	for _, c := range strings.Split(comments, ";;") {
		name, value, found := strings.Cut(strings.TrimSpace(c), "=")
		if !found {
			continue // the time in words
		}
		switch name {
		case "state":
			// The number; a word in brackets may follow it.
			n, convErr := strconv.Atoi(strings.TrimSpace(value[:min(1, len(value))]))
			if convErr != nil || n >= len(anchorStates) {
				return fmt.Errorf("unknown state %q", value)
			}
			k.State = anchorStates[n]
		case "count":
			k.Count, err = strconv.Atoi(value)
		case "lastchange":
			k.LastChange, err = strconv.ParseInt(value, 10, 64)
		default:
			err = fmt.Errorf("unknown note %q", name)
		}
		if err != nil {
			return err
		}
	}
	s.Keys = append(s.Keys, k)
	return nil
}

// lines renders the state for comparison: one fact a line, keys sorted.
func (s *AnchorState) lines() []string {
	var keys []string
	for _, k := range s.Keys {
		keys = append(keys, fmt.Sprintf("key %s %d %x %s count=%d lastchange=%d", strings.ToLower(k.RR.Name), k.RR.TTL, k.RR.Data, k.State, k.Count, k.LastChange))
	}
	slices.Sort(keys)
	return append([]string{
		fmt.Sprint("zone ", strings.ToLower(s.Zone)), fmt.Sprint("all revoked ", s.AllRevoked),
		fmt.Sprint("last queried ", s.LastQueried), fmt.Sprint("last success ", s.LastSuccess),
		fmt.Sprint("next probe ", s.NextProbe), fmt.Sprint("queries failed ", s.QueryFailed),
		fmt.Sprint("query interval ", s.QueryInterval), fmt.Sprint("retry time ", s.RetryTime),
	}, keys...)
}

// checkAutotrust compares the persisted state with the expected file.
func (p *Player) checkAutotrust(step *Step) error {
	var expanded []string
	for _, line := range step.Expect {
		line, err := p.macros.expand(line)
		if err != nil {
			return err
		}
		expanded = append(expanded, line)
	}
	expected, err := ParseAnchorState(expanded)
	if err != nil {
		return err
	}
	got, err := p.Subject.AnchorState(step.Name)
	if err != nil {
		return err
	}
	var diff strings.Builder
	want, have := expected.lines(), got.lines()
	for _, l := range want {
		if !slices.Contains(have, l) {
			fmt.Fprintf(&diff, "  missing    %s\n", l)
		}
	}
	for _, l := range have {
		if !slices.Contains(want, l) {
			fmt.Fprintf(&diff, "  unexpected %s\n", l)
		}
	}
	if diff.Len() > 0 {
		return fmt.Errorf("trust anchor state differs:\n%s", diff.String())
	}
	return nil
}
