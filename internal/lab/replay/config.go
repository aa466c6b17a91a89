package replay

import (
	"regexp"
	"strings"
)

// clauses are the headers of Unbound's configuration.
var clauses = map[string]bool{"server": true, "stub-zone": true, "forward-zone": true, "remote-control": true, "rpz": true, "auth-zone": true, "view": true, "cachedb": true}

var keyPattern = regexp.MustCompile(`^[a-z][a-z0-9-]*:$`)

// config reads everything up to CONFIG_END.
func (p *parser) config(s *Scenario) error {
	s.Dialect = Deckard
	clause, kind := 0, ""
	for p.at < len(p.lines) {
		line := p.lines[p.at]
		p.at++
		words := configWords(line)
		if len(words) == 0 {
			continue
		}
		switch head := words[0].text; head {
		case "CONFIG_END":
			return nil
		case "AUTOTRUST_FILE", "TEMPFILE_NAME", "TEMPFILE_CONTENTS":
			if err := p.configFile(s, words); err != nil {
				return err
			}
			continue
		}
		for len(words) > 0 {
			if !words[0].isKey() {
				return p.errorf("option expected, not %q", words[0].text)
			}
			key := strings.TrimSuffix(words[0].text, ":")
			n := 1
			for n < len(words) && !words[n].isKey() {
				n++
			}
			if clauses[key] && n == 1 {
				s.Dialect = Unbound
				clause, kind = clause+1, key
			} else {
				s.Options = append(s.Options, Option{Clause: clause, Kind: kind, Key: key, Value: joinWords(words[1:n]), Line: p.at})
			}
			words = words[n:]
		}
	}
	return p.errorf("CONFIG_END expected, the file ends")
}

// configFile reads an inline file.
func (p *parser) configFile(s *Scenario, words []configWord) error {
	if len(words) != 2 {
		return p.errorf("%s needs one name", words[0].text)
	}
	f := File{Name: words[1].text, Autotrust: words[0].text == "AUTOTRUST_FILE"}
	var err error
	switch words[0].text {
	case "AUTOTRUST_FILE":
		f.Lines, err = p.until("AUTOTRUST_END")
	case "TEMPFILE_CONTENTS":
		f.Lines, err = p.until("TEMPFILE_END")
	default: // TEMPFILE_NAME declares a file that is still empty
	}
	s.Files = append(s.Files, f)
	return err
}

type configWord struct {
	text   string
	quoted bool
}

func (w configWord) isKey() bool { return !w.quoted && keyPattern.MatchString(w.text) }

func joinWords(words []configWord) string {
	var texts []string
	for _, w := range words {
		texts = append(texts, w.text)
	}
	return strings.Join(texts, " ")
}

// configWords splits a line at blanks outside of quotes and cuts comments.
func configWords(line string) []configWord {
	var out []configWord
	for i := 0; i < len(line); {
		switch c := line[i]; c {
		case ' ', '\t':
			i++
		case '#', ';':
			return out
		case '"', '\'':
			end := strings.IndexByte(line[i+1:], c)
			if end < 0 {
				end = len(line) - i - 1
			}
			out = append(out, configWord{text: line[i+1 : i+1+end], quoted: true})
			i += end + 2
		default:
			end := strings.IndexAny(line[i:], " \t#;\"")
			if end < 0 {
				end = len(line) - i
			}
			out = append(out, configWord{text: line[i : i+end]})
			i += end
		}
	}
	return out
}
