package resolver

import (
	"strconv"
	"strings"

	"danepost/resolver/dnssec"
)

// sentinel reports whether an answer must be SERVFAIL because its name asks,
// and the trust anchors of the root say otherwise (RFC 8509 §3.1): a test by
// which operators see who trusts a key.
func (r *Resolver) sentinel(q Question, o *outcome) bool {
	if q.CD || o.verdict.Status != dnssec.Secure || q.Type != TypeA && q.Type != TypeAAAA {
		return false
	}
	label := firstLabel(q.Name)
	number, is := strings.CutPrefix(label, "root-key-sentinel-is-ta-")
	if !is {
		var not bool
		if number, not = strings.CutPrefix(label, "root-key-sentinel-not-ta-"); !not {
			return false
		}
	}
	if len(number) != 5 {
		return false
	}
	tag, err := strconv.ParseUint(number, 10, 16)
	return err == nil && r.trusts(uint16(tag)) != is
}

// trusts reports whether a trust anchor of the root has this key tag.
func (r *Resolver) trusts(tag uint16) bool {
	for _, a := range r.anchors() {
		if a.Zone != dnssec.Root {
			continue
		}
		if a.DS != nil && a.DS.KeyTag == tag || a.Key != nil && dnssec.KeyTag(a.Key) == tag {
			return true
		}
	}
	return false
}
