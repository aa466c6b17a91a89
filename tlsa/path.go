package tlsa

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The extensions that this package understands itself, whatever the parser
// thinks of their contents.
var (
	oidSubjectAltName  = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidKeyUsage        = asn1.ObjectIdentifier{2, 5, 29, 15}
)

// checkPath judges a path whose signatures hold: the server's certificate
// first, the anchor last (or what the anchor's bare key signed). The anchor
// is held to the same rules as what stands below it. Policies are not judged:
// no DANE-TA user states any.
func (s *search) checkPath(path []*x509.Certificate) (Cause, string) {
	between := 0 // authorities below that are not self-issued (RFC 5280 §4.2.1.9)
	for depth, c := range path {
		for _, check := range []func() (Cause, string){
			func() (Cause, string) { return checkAuthority(depth, between, c) },
			func() (Cause, string) { return checkPurpose(depth, c) },
			func() (Cause, string) { return checkCritical(depth, c) },
			func() (Cause, string) { return checkDates(depth, c, s.now) },
		} {
			if cause, why := check(); cause != CauseNone {
				return cause, why
			}
		}
		if depth > 0 && !selfIssued(c) {
			between++
		}
	}
	name, ok := matchName(path[0], s.names)
	if !ok {
		// RFC 7672 §3.2.2
		return CauseWrongName, fmt.Sprintf("the server's certificate is for %s, not for %s", listNames(path[0]), strings.Join(s.names, " or "))
	}
	return checkConstraints(path, name, &s.compare)
}

// checkAuthority asks of every certificate above the server's own that it may
// issue others (RFC 5280 §6.1.4, steps k to n). An authority of version 1, or
// one without basicConstraints, is none: a server's certificate must not be
// able to vouch for another.
func checkAuthority(depth, between int, c *x509.Certificate) (Cause, string) {
	if depth == 0 {
		return CauseNone, ""
	}
	if !c.BasicConstraintsValid || !c.IsCA {
		return CauseNotCA, who(depth, c) + " is not a certification authority (basicConstraints)"
	}
	if hasExtension(c, oidKeyUsage) && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return CauseNotCA, who(depth, c) + " may not sign certificates (keyUsage)"
	}
	if (c.MaxPathLen > 0 || c.MaxPathLenZero) && between > c.MaxPathLen {
		return CausePathLength, fmt.Sprintf("%s limits the path below it to %d authorities, and it has %d", who(depth, c), c.MaxPathLen, between)
	}
	return CauseNone, ""
}

// checkPurpose asks that a certificate may serve a TLS server, or stand above
// one that does (RFC 5280 §4.2.1.3, §4.2.1.12).
func checkPurpose(depth int, c *x509.Certificate) (Cause, string) {
	limited := len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0
	if limited && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return CausePurpose, who(depth, c) + " is not for TLS servers (extKeyUsage)"
	}
	const tls = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
	if depth == 0 && hasExtension(c, oidKeyUsage) && c.KeyUsage&tls == 0 {
		return CausePurpose, who(depth, c) + " is not for TLS (keyUsage)"
	}
	return CauseNone, ""
}

// checkCritical refuses what nobody here understands (RFC 5280 §4.2).
func checkCritical(depth int, c *x509.Certificate) (Cause, string) {
	for _, id := range c.UnhandledCriticalExtensions {
		if !id.Equal(oidSubjectAltName) && !id.Equal(oidNameConstraints) {
			return CauseCritical, fmt.Sprintf("%s has the critical extension %s, which is unknown here", who(depth, c), id)
		}
	}
	return CauseNone, ""
}

func checkDates(depth int, c *x509.Certificate, now time.Time) (Cause, string) {
	switch {
	case now.Before(c.NotBefore):
		return CauseNotYetValid, who(depth, c) + " is valid only from " + date(c.NotBefore)
	case now.After(c.NotAfter):
		return CauseExpired, who(depth, c) + " expired on " + date(c.NotAfter)
	}
	return CauseNone, ""
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

func selfIssued(c *x509.Certificate) bool {
	return canonicalName(c.RawSubject) == canonicalName(c.RawIssuer)
}

func hasExtension(c *x509.Certificate, id asn1.ObjectIdentifier) bool {
	_, ok := extension(c, id)
	return ok
}

// extension returns the contents of an extension.
func extension(c *x509.Certificate, id asn1.ObjectIdentifier) ([]byte, bool) {
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			return e.Value, true
		}
	}
	return nil, false
}

// who names a certificate of a path. Names come from strangers and are quoted.
func who(depth int, c *x509.Certificate) string {
	if depth == 0 {
		return "the server's certificate"
	}
	return fmt.Sprintf("the authority %s at depth %d", describe(c), depth)
}

func describe(c *x509.Certificate) string {
	const most = 80
	name := c.Subject.CommonName
	if name == "" {
		name = c.Subject.String()
	}
	if len(name) > most {
		name = name[:most] + "…"
	}
	return fmt.Sprintf("%q", name)
}
