package submit

import (
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// AuthMechanisms implements smtp.AuthSession: passwords go over TLS only.
func (s *session) AuthMechanisms() []string {
	if s.b.smtp.UsersFile == "" || !s.secure() {
		return nil
	}
	return []string{sasl.Plain, sasl.Login}
}

// Auth implements smtp.AuthSession.
func (s *session) Auth(mech string) (sasl.Server, error) {
	switch {
	case !s.secure():
		return nil, &smtp.SMTPError{Code: 523, EnhancedCode: smtp.EnhancedCode{5, 7, 10}, Message: "TLS is required"}
	case s.b.smtp.UsersFile == "":
		return nil, smtp.ErrAuthUnknownMechanism
	case mech == sasl.Plain:
		return sasl.NewPlainServer(func(identity, user, password string) error {
			if identity != "" && identity != user {
				return smtp.ErrAuthFailed
			}
			return s.logIn(user, password)
		}), nil
	case mech == sasl.Login:
		return &loginServer{logIn: s.logIn}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// logIn checks a password; from then on the session is the user's.
func (s *session) logIn(user, password string) error {
	if !s.b.limits.mayTry(s.addr, s.b.now()) {
		return &smtp.SMTPError{Code: 454, EnhancedCode: smtp.EnhancedCode{4, 7, 0}, Message: "too many failures, try again later"}
	}
	ok, err := checkPassword(s.b.smtp.UsersFile, user, password)
	if err != nil {
		s.b.log().Error("smtp authentication", "reason", err.Error())
		return &smtp.SMTPError{Code: 454, EnhancedCode: smtp.EnhancedCode{4, 7, 0}, Message: "authentication is out of order here"}
	}
	if !ok {
		s.b.limits.failed(s.addr, s.b.now())
		s.b.log().Warn("smtp authentication failed", "client", s.addr.String(), "user", clip(user))
		return smtp.ErrAuthFailed
	}
	s.source.User = user
	return nil
}

// loginServer is AUTH LOGIN, the only mechanism of many printers and
// scanners: it asks for the name and then for the password. A name may come
// with the command.
type loginServer struct {
	logIn func(user, password string) error
	user  string
	asked int // 0 nothing yet, 1 for the name, 2 for the password
}

// Next implements sasl.Server.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if l.asked == 0 && response == nil {
		l.asked = 1
		return []byte("Username:"), false, nil
	}
	if l.asked < 2 {
		l.user, l.asked = string(response), 2
		return []byte("Password:"), false, nil
	}
	return nil, true, l.logIn(l.user, string(response))
}
