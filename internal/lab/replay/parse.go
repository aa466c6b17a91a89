package replay

import (
	"net/netip"
	"strconv"
	"strings"
)

// parser walks over the lines of one file.
type parser struct {
	file  string
	lines []string
	at    int // index of the next line
}

// Parse reads a scenario; file is its name for error messages.
func Parse(file string, data []byte) (*Scenario, error) {
	p := &parser{file: file, lines: strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")}
	s := &Scenario{File: file}
	if err := p.config(s); err != nil {
		return nil, err
	}
	if err := p.begin(s); err != nil {
		return nil, err
	}
	if err := p.body(s); err != nil {
		return nil, err
	}
	return s, nil
}

func (p *parser) errorf(format string, args ...any) error {
	return syntaxError(p.file, p.at, format, args...)
}

// next returns the next line that says something, without comment and
// surrounding blanks, split into words.
func (p *parser) next() (words []string, ok bool) {
	for p.at < len(p.lines) {
		line := bare(p.lines[p.at])
		p.at++
		if line != "" {
			return strings.Fields(line), true
		}
	}
	return nil, false
}

// bare cuts comments and blanks from a directive line.
func bare(line string) string {
	if i := strings.IndexAny(line, ";#"); i >= 0 {
		line = line[:i]
	}
	return strings.TrimSpace(line)
}

// begin reads SCENARIO_BEGIN. The title is free text.
func (p *parser) begin(s *Scenario) error {
	words, ok := p.next()
	if !ok || words[0] != "SCENARIO_BEGIN" {
		return p.errorf("SCENARIO_BEGIN expected")
	}
	_, title, _ := strings.Cut(p.lines[p.at-1], "SCENARIO_BEGIN")
	s.Title = strings.TrimSpace(title)
	return nil
}

// body reads ranges and steps up to SCENARIO_END.
func (p *parser) body(s *Scenario) error {
	for {
		words, ok := p.next()
		if !ok {
			return p.errorf("SCENARIO_END expected, the file ends")
		}
		switch words[0] {
		case "SCENARIO_END":
			return nil
		case "RANGE_BEGIN":
			r, err := p.readRange(words)
			if err != nil {
				return err
			}
			s.Ranges = append(s.Ranges, r)
		case "RANGE_END":
			// A second one after a range is found in recorded files; it
			// closes nothing and changes nothing.
			if len(s.Ranges) == 0 {
				return p.errorf("RANGE_END without RANGE_BEGIN")
			}
		case "STEP":
			st, err := p.readStep(words)
			if err != nil {
				return err
			}
			s.Steps = append(s.Steps, st)
		default:
			return p.errorf("unknown directive %q", words[0])
		}
	}
}

// readRange reads "RANGE_BEGIN from to [address]" up to RANGE_END.
func (p *parser) readRange(words []string) (Range, error) {
	r := Range{Line: p.at}
	if len(words) != 3 && len(words) != 4 {
		return r, p.errorf("RANGE_BEGIN needs two step numbers")
	}
	var err1, err2 error
	r.From, err1 = strconv.Atoi(words[1])
	r.To, err2 = strconv.Atoi(words[2])
	if err1 != nil || err2 != nil {
		return r, p.errorf("RANGE_BEGIN needs two step numbers")
	}
	if len(words) == 4 {
		if err := p.addAddress(&r, words[3]); err != nil {
			return r, err
		}
	}
	for {
		words, ok := p.next()
		if !ok {
			return r, p.errorf("RANGE_END expected, the file ends")
		}
		switch words[0] {
		case "RANGE_END":
			return r, nil
		case "ADDRESS":
			if len(words) != 2 {
				return r, p.errorf("ADDRESS needs one address")
			}
			if err := p.addAddress(&r, words[1]); err != nil {
				return r, err
			}
		case "ENTRY_BEGIN":
			e, err := p.readEntry()
			if err != nil {
				return r, err
			}
			r.Entries = append(r.Entries, e)
		default:
			return r, p.errorf("unknown directive %q in a range", words[0])
		}
	}
}

func (p *parser) addAddress(r *Range, s string) error {
	addr, err := parseAddress(s)
	if err != nil {
		return p.errorf("address %q: %v", s, err)
	}
	r.Addresses = append(r.Addresses, addr)
	return nil
}

// parseAddress reads "ip" or "ip@port"; ports do not matter here.
func parseAddress(s string) (netip.Addr, error) {
	s, _, _ = strings.Cut(s, "@")
	return netip.ParseAddr(s)
}

// readStep reads "STEP n KIND ..." and what belongs to it.
func (p *parser) readStep(words []string) (Step, error) {
	st := Step{Line: p.at}
	if len(words) < 3 {
		return st, p.errorf("STEP needs a number and a kind")
	}
	n, err := strconv.Atoi(words[1])
	if err != nil {
		return st, p.errorf("step number %q", words[1])
	}
	st.Number, st.Kind = n, StepKind(words[2])
	args := words[3:]
	if len(args) == 2 && args[0] == "ADDRESS" {
		if st.Address, err = parseAddress(args[1]); err != nil {
			return st, p.errorf("address %q: %v", args[1], err)
		}
		args = nil
	}
	switch st.Kind {
	case Query, CheckAnswer, CheckOutQuery, Reply:
		err = p.stepEntry(&st, args)
	case Timeout, NetworkError, Nothing, Traffic:
		if len(args) != 0 {
			err = p.errorf("unknown words %q after %s", args, st.Kind)
		}
	case TimePasses, Assign:
		err = p.stepExpr(&st, args)
	case CheckAutotrust, "CHECK_TEMPFILE":
		err = p.stepFile(&st, args)
	default:
		if foreign[st.Kind] {
			break
		}
		err = p.errorf("unknown kind of step %q", words[2])
	}
	return st, err
}

// stepEntry reads the message of a step, with an optional ADDRESS line before.
func (p *parser) stepEntry(st *Step, args []string) error {
	if len(args) != 0 {
		return p.errorf("unknown words %q after %s", args, st.Kind)
	}
	for {
		words, ok := p.next()
		if !ok {
			return p.errorf("ENTRY_BEGIN expected, the file ends")
		}
		switch {
		case words[0] == "ADDRESS" && len(words) == 2:
			addr, err := parseAddress(words[1])
			if err != nil {
				return p.errorf("address %q: %v", words[1], err)
			}
			st.Address = addr
		case words[0] == "ENTRY_BEGIN":
			e, err := p.readEntry()
			if err != nil {
				return err
			}
			st.Entry = e
			if len(e.Question) != 1 && st.Kind != Reply {
				return p.errorf("%s needs one question", st.Kind)
			}
			return nil
		default:
			return p.errorf("ENTRY_BEGIN expected after %s, not %q", st.Kind, words[0])
		}
	}
}

// stepExpr reads "TIME_PASSES ELAPSE n", "TIME_PASSES EVAL ${..}" or
// "ASSIGN name = value". Comment signs do not occur in expressions.
func (p *parser) stepExpr(st *Step, args []string) error {
	if st.Kind == TimePasses {
		if len(args) < 2 || args[0] != "ELAPSE" && args[0] != "EVAL" {
			return p.errorf("TIME_PASSES needs ELAPSE seconds or EVAL expression")
		}
		st.Expr = strings.Join(args[1:], " ")
		return nil
	}
	name, expr, found := strings.Cut(strings.Join(args, " "), "=")
	if !found || strings.TrimSpace(name) == "" {
		return p.errorf("ASSIGN needs name = value")
	}
	st.Name, st.Expr = strings.TrimSpace(name), strings.TrimSpace(expr)
	return nil
}

// stepFile reads the lines between FILE_BEGIN and FILE_END as they are.
func (p *parser) stepFile(st *Step, args []string) error {
	if len(args) != 1 {
		return p.errorf("%s needs one name", st.Kind)
	}
	st.Name = args[0]
	if words, ok := p.next(); !ok || words[0] != "FILE_BEGIN" {
		return p.errorf("FILE_BEGIN expected")
	}
	lines, err := p.until("FILE_END")
	st.Expect = lines
	return err
}

// until returns the raw lines before the one that is word.
func (p *parser) until(word string) ([]string, error) {
	for from := p.at; p.at < len(p.lines); {
		p.at++
		if strings.TrimSpace(p.lines[p.at-1]) == word {
			return p.lines[from : p.at-1], nil
		}
	}
	return nil, p.errorf("%s expected, the file ends", word)
}
