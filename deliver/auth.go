package deliver

// auth logs in to a relay or via (RFC 4954 §4). A password is sent only to a
// host that has proved who it is.
func (s *session) auth() *failure {
	h := s.plan.hop
	if h.username == "" {
		return nil
	}
	if !s.proof.authenticated() {
		return later("4.7.8", "the password for %s is not sent over a connection that is %s: the host must be verified (dane, verify or fingerprint)",
			h.domain, s.proof.security)
	}
	return later("4.7.8", "not written yet")
}
