package deliver

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
)

// auth logs in to a relay or via (RFC 4954 §4). A password is sent only to a
// host that has proved who it is. Whatever goes wrong is temporary: it is the
// site's password or configuration, not the message.
func (s *session) auth() *failure {
	h := s.plan.hop
	if h.username == "" {
		return nil
	}
	if !s.proof.authenticated() {
		return later("4.7.8", "the password for %s is not sent over a connection that is no more than %s: the host must be verified (dane, verify or fingerprint)",
			h.domain, s.proof.security)
	}
	m := chooseMechanism(s.ext["AUTH"], h.username, h.password)
	if m == nil {
		return later("4.7.8", "%s offers no way to log in that is known here (it offers %q)", h.domain, s.ext["AUTH"])
	}
	return s.converse(m)
}

// mechanism is one SASL mechanism (RFC 4422), asked for its next response.
type mechanism interface {
	name() string
	// start returns the initial response, nil if there is none.
	start() ([]byte, error)
	next(challenge []byte) ([]byte, error)
	// done says whether the server has proved all that it must.
	done() error
}

// chooseMechanism takes the strongest that is offered.
func chooseMechanism(offered, username, password string) mechanism {
	words := strings.Fields(offered)
	for _, m := range []mechanism{
		newSCRAM("SCRAM-SHA-256", username, password),
		newSCRAM("SCRAM-SHA-1", username, password),
		&plainAuth{username, password},
		&loginAuth{username: username, password: password},
	} {
		if slices.Contains(words, m.name()) {
			return m
		}
	}
	return nil
}

// converse runs the exchange of challenges and responses.
func (s *session) converse(m mechanism) *failure {
	line := "AUTH " + m.name()
	first, err := m.start()
	if err != nil {
		return later("4.7.8", "log-in with %s: %v", m.name(), err)
	}
	if first != nil {
		line += " " + base64.StdEncoding.EncodeToString(first)
	}
	for range maxSASLSteps {
		r, err := s.wire.command(s.d.cfg.Timeouts.EHLO, line)
		switch {
		case err != nil:
			return later("4.4.2", "during log-in: %s", why(err))
		case r.code == 235:
			if err := m.done(); err != nil {
				return later("4.7.8", "log-in with %s: %v", m.name(), err)
			}
			return nil
		case r.code != 334:
			f := refused("AUTH "+m.name(), r).softened()
			f.reason = oneLine("log-in failed: " + f.reason)
			return f
		}
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.lines[len(r.lines)-1]))
		if err != nil {
			return later("4.7.8", "log-in with %s: the challenge is not base64", m.name())
		}
		response, err := m.next(challenge)
		if err != nil {
			s.wire.command(quitTime, "*") // RFC 4954 §4: cancel
			return later("4.7.8", "log-in with %s: %v", m.name(), err)
		}
		line = base64.StdEncoding.EncodeToString(response)
	}
	return later("4.7.8", "log-in with %s: more than %d challenges", m.name(), maxSASLSteps)
}

// plainAuth is PLAIN (RFC 4616 §2).
type plainAuth struct{ username, password string }

func (p *plainAuth) name() string { return "PLAIN" }
func (p *plainAuth) start() ([]byte, error) {
	return []byte("\x00" + p.username + "\x00" + p.password), nil
}
func (p *plainAuth) next([]byte) ([]byte, error) { return nil, errors.New("unexpected challenge") }
func (p *plainAuth) done() error                 { return nil }

// loginAuth is LOGIN, which was never standardized: two prompts, whatever
// they say.
type loginAuth struct {
	username, password string
	asked              int
}

func (l *loginAuth) name() string           { return "LOGIN" }
func (l *loginAuth) start() ([]byte, error) { return nil, nil }
func (l *loginAuth) done() error            { return nil }

func (l *loginAuth) next([]byte) ([]byte, error) {
	l.asked++
	switch l.asked {
	case 1:
		return []byte(l.username), nil
	case 2:
		return []byte(l.password), nil
	}
	return nil, errors.New("unexpected challenge")
}
