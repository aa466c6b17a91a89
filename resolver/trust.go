package resolver

import (
	"fmt"
	"hash/fnv"
	"time"

	"danepost/resolver/dnssec"
)

// trust is what is known about the keys of one zone: Secure with keys; or the
// highest zone on the way down that is Insecure, Bogus or Indeterminate, which then
// holds for all below it. Immutable.
type trust struct {
	dnssec.Verdict
	zone    dnssec.Name
	keys    *dnssec.Keys
	expires time.Time
	chain   []ZoneTrust // from the anchor down to zone
}

func (t *trust) bytes() int {
	size := 128 + len(t.Text) + 96*len(t.chain)
	if n := len(t.chain); n > 0 {
		size += 8 * (len(t.chain[n-1].Keys) + len(t.chain[n-1].DS))
	}
	if t.keys != nil {
		size += t.keys.Size()
	}
	return size
}

// trustFor returns the trust in the zone that holds name: it starts from the closest anchor
// (or what is known below it) and goes from cut to cut. RFC 4035 §5 asks for a chain of
// DS and DNSKEY; where a zone has no DS, for the proof of it. direct says that
// name is likely to be a zone itself, since something claims to be signed by it.
func (x *resolution) trustFor(name dnssec.Name, direct bool) *trust {
	zone, anchors := x.anchorsOver(name)
	if len(anchors) == 0 {
		return &trust{zone: dnssec.Root, expires: x.now.Add(x.r.lim.MaxTTL), Verdict: dnssec.Verdict{
			Status: dnssec.Insecure, Reason: dnssec.ReasonNoAnchor, EDE: -1,
			Text: fmt.Sprintf("no trust anchor stands above %s", name),
		}}
	}
	t := x.knownTrust(name, zone)
	if t == nil {
		t = x.anchored(zone, anchors)
	}
	for t.Status == dnssec.Secure && t.zone != name {
		next := x.nextCut(t, name, direct)
		if next == nil {
			break
		}
		t = next
	}
	return t
}

// anchorsOver returns the trust anchors of the zone closest above name.
func (x *resolution) anchorsOver(name dnssec.Name) (dnssec.Name, []dnssec.Anchor) {
	var zone dnssec.Name
	var found []dnssec.Anchor
	for _, a := range x.anchors {
		switch {
		case !name.IsSubdomainOf(a.Zone) || len(a.Zone) < len(zone):
		case a.Zone == zone:
			found = append(found, a)
		default:
			zone, found = a.Zone, []dnssec.Anchor{a}
		}
	}
	return zone, found
}

// currentAnchors returns the trust anchors. When they are others than before, all
// that was proved by the old ones is forgotten: a revoked key must not go on
// being trusted for as long as the TTLs of what it signed (RFC 5011 §2.1).
func (r *Resolver) currentAnchors() []dnssec.Anchor {
	anchors := r.anchors()
	h := fnv.New64a()
	for _, a := range anchors {
		h.Write([]byte(a.Zone))
		h.Write(a.Key)
		if a.DS != nil {
			h.Write([]byte{byte(a.DS.KeyTag >> 8), byte(a.DS.KeyTag), a.DS.Algorithm, a.DS.DigestType})
			h.Write(a.DS.Digest)
		}
	}
	sum := h.Sum64()
	if old := r.anchorSum.Swap(sum); old != sum && old != 0 {
		r.cache.clear()
	}
	return anchors
}

// knownTrust returns the trust in the closest zone above name, top at the highest, that
// the cache has.
func (x *resolution) knownTrust(name, top dnssec.Name) *trust {
	for n := name; n.IsSubdomainOf(top); n = n.Parent() {
		if t, ok := x.r.cache.get(cacheKey{n, 0, kindTrust}, x.now).(*trust); ok {
			return t
		}
		if n == dnssec.Root {
			break
		}
	}
	return nil
}

// anchored enters the zone of a trust anchor.
func (x *resolution) anchored(zone dnssec.Name, anchors []dnssec.Anchor) *trust {
	if x.r.negative(zone) {
		return x.negativeAnchor(zone, nil)
	}
	return x.enter(&entering{zone: zone, anchors: anchors, expires: x.now.Add(x.r.lim.MaxTTL)})
}

// nextCut returns the trust in the next zone below t on the way to name, nil
// if there is no zone cut between.
func (x *resolution) nextCut(t *trust, name dnssec.Name, direct bool) *trust {
	from := t.zone.Labels() + 1
	to := name.Labels()
	for n := from; n <= to; n++ {
		if cut := name.Ancestor(n); x.r.negative(cut) {
			return x.negativeAnchor(cut, t)
		}
	}
	for n := from; n <= to; n++ {
		if d := x.known(name.Ancestor(n)); d != nil && d.parent == t.zone {
			if next := x.byReferral(t, d); next != nil {
				return next
			}
		}
	}
	if direct && to > from {
		if next := x.byDS(t, name, true); next != nil {
			return next
		}
	}
	for n := from; n <= to; n++ {
		if next := x.byDS(t, name.Ancestor(n), false); next != nil {
			return next
		}
	}
	return nil
}

// byReferral judges a cut by what the referral to it held. It returns nil where
// that proves nothing: then the DS records must be asked for.
func (x *resolution) byReferral(t *trust, d *delegation) *trust {
	if ds := d.dsSet(); ds != nil {
		if p := t.keys.Verify(ds, x.now, &x.budget); p.Status == dnssec.Secure && p.Wildcard == "" {
			return x.enterDS(t, ds, p)
		}
		return nil
	}
	if len(d.denial) == 0 {
		return nil
	}
	proof := t.keys.Denial(d.denial, x.now, &x.budget)
	if found, v := proof.NoDS(d.zone, &x.budget); found != dnssec.NotProved && found != dnssec.NotACut {
		return x.insecure(t, d.zone, v, x.now.Add(min(x.ttl(proof.TTL), d.expires.Sub(x.now))))
	}
	return nil
}

// byDS asks for the DS records of cut and judges by them. nil means that there is no
// cut, proved by the zone of t; guess allows that the question was rash,
// because other zones lie between.
func (x *resolution) byDS(t *trust, cut dnssec.Name, guess bool) *trust {
	var next *trust
	_, v := x.settle(question{cut, typeDS}, func(f *fact) dnssec.Verdict {
		var v dnssec.Verdict
		next, v = x.weighDS(t, cut, f)
		if guess && v.Status == dnssec.Bogus {
			v.Status = dnssec.Indeterminate // no reason to ask other servers
		}
		return v
	})
	switch {
	case next != nil || v.Status == dnssec.Secure || guess:
		return next
	case v.Status == dnssec.Bogus:
		return x.broken(t, cut, v)
	}
	if v.Reason == reasonUnreachable || v.Reason == reasonUseless {
		v.EDE = edeNetworkError
	}
	return &trust{zone: cut, Verdict: v, expires: x.now, chain: x.chain(t, cut, v, nil)}
}

// weighDS judges the reply to a DS question at cut by the keys of the zone above.
// Secure without a trust means that no zone starts there.
func (x *resolution) weighDS(t *trust, cut dnssec.Name, f *fact) (*trust, dnssec.Verdict) {
	if f.set != nil {
		p := t.keys.Verify(f.set, x.now, &x.budget)
		if p.Status != dnssec.Secure {
			return nil, p.Verdict
		}
		if p.Wildcard != "" { // no cut, if it is true that nothing else stands there (RFC 4592 §4.6)
			proof := t.keys.Denial(f.proof, x.now, &x.budget)
			v := proof.WildcardAnswer(f.set.Name, p.Wildcard, &x.budget)
			if v.Status == dnssec.Bogus {
				v.EDE = edeBogus
			}
			return nil, v
		}
		if f.set.Type != typeDS {
			return nil, p.Verdict // an alias stands there
		}
		return x.enterDS(t, f.set, p), p.Verdict
	}
	proof := t.keys.Denial(f.proof, x.now, &x.budget)
	found, v := proof.NoDS(cut, &x.budget)
	switch found {
	case dnssec.NotProved, dnssec.NotACut:
		return nil, v
	}
	return x.insecure(t, cut, v, minTime(f.expires, x.now.Add(x.ttl(proof.TTL)))), v
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// enterDS enters the zone that a verified DS RRset speaks of.
func (x *resolution) enterDS(t *trust, ds *dnssec.RRset, p dnssec.Proof) *trust {
	e := &entering{above: t, zone: ds.Name, expires: x.now.Add(x.ttl(p.TTL))}
	for _, data := range ds.Data {
		if d, err := dnssec.ParseDS(data); err == nil {
			e.anchors = append(e.anchors, dnssec.Anchor{Zone: ds.Name, DS: &d})
		}
	}
	return x.enter(e)
}

// entering is a zone about to be trusted by its anchors: DS records that the zone above signed,
// or configured ones.
type entering struct {
	above   *trust // nil at a configured anchor
	zone    dnssec.Name
	anchors []dnssec.Anchor
	expires time.Time
}

// enter fetches the keys of a zone, once for all who need them, and judges them.
func (x *resolution) enter(e *entering) *trust {
	key := flightKey{cacheKey: cacheKey{e.zone, 0, kindTrust}}
	v, _ := x.r.flights.do(x, key, func() any {
		if t, ok := x.r.cache.get(key.cacheKey, x.now).(*trust); ok {
			return t
		}
		t := x.fetchKeys(e)
		if t.expires.After(x.now) {
			x.r.cache.put(key.cacheKey, t, t.expires)
		}
		return t
	})
	return v.(*trust)
}

// fetchKeys does the work of enter. Without a DS that is supported there is nothing
// to fetch (RFC 4035 §5.2).
func (x *resolution) fetchKeys(e *entering) *trust {
	var keys *dnssec.Keys
	t := &trust{zone: e.zone, expires: e.expires}
	if _, v := x.r.rules.TrustKeys(nil, e.anchors, x.now, &x.budget); v.Status == dnssec.Insecure {
		t.Verdict = v
	} else {
		q := question{e.zone, typeDNSKEY}
		f, v := x.settle(q, func(f *fact) (v dnssec.Verdict) {
			set := f.set
			if set == nil || set.Type != typeDNSKEY || set.Name != e.zone {
				set = &dnssec.RRset{Name: e.zone, Type: typeDNSKEY, Class: classIN}
			}
			keys, v = x.r.rules.TrustKeys(set, e.anchors, x.now, &x.budget)
			return v
		})
		t.Verdict, t.keys = v, keys
		if f == nil {
			t.EDE = edeDNSKEYMissing
		} else {
			t.Verdict = x.stripped(v, f.from)
			x.forget(f) // the keys stand in the trust from now on
		}
	}
	switch t.Status {
	case dnssec.Secure:
		t.expires = minTime(t.expires, x.now.Add(x.ttl(keys.Proof.TTL)))
	case dnssec.Bogus:
		t.expires = x.now.Add(x.r.lim.BogusTTL)
	case dnssec.Indeterminate:
		t.expires = x.now
	}
	t.chain = x.chain(e.above, e.zone, t.Verdict, e.anchors)
	if keys != nil {
		last := &t.chain[len(t.chain)-1]
		for _, k := range keys.List() {
			last.Keys = append(last.Keys, KeyRef{Tag: k.Tag, Algorithm: k.Algorithm, Flags: k.Flags, Used: k.Entry})
		}
	}
	return t
}

// insecure makes and keeps the trust in a zone that provably has no chain.
func (x *resolution) insecure(above *trust, zone dnssec.Name, v dnssec.Verdict, until time.Time) *trust {
	t := &trust{zone: zone, Verdict: v, expires: minTime(until, above.expires)}
	t.chain = x.chain(above, zone, v, nil)
	if t.expires.After(x.now) {
		x.r.cache.put(cacheKey{zone, 0, kindTrust}, t, t.expires)
	}
	return t
}

// broken makes and keeps the trust in a zone whose DS or denial of it does not verify.
func (x *resolution) broken(above *trust, zone dnssec.Name, v dnssec.Verdict) *trust {
	t := &trust{zone: zone, Verdict: v, expires: x.now.Add(x.r.lim.BogusTTL)}
	t.chain = x.chain(above, zone, v, nil)
	x.r.cache.put(cacheKey{zone, 0, kindTrust}, t, t.expires)
	return t
}

// negativeAnchor is the trust in a zone that the administrator exempts (RFC 7646).
func (x *resolution) negativeAnchor(zone dnssec.Name, above *trust) *trust {
	v := dnssec.Verdict{
		Status: dnssec.Insecure, Reason: "negative-trust-anchor", EDE: -1,
		Text: fmt.Sprintf("the configuration names %s as a negative trust anchor", zone),
	}
	return &trust{zone: zone, Verdict: v, expires: x.now.Add(x.r.lim.MaxTTL), chain: x.chain(above, zone, v, nil)}
}

// chain adds one zone to the chain of the zone above it.
func (x *resolution) chain(above *trust, zone dnssec.Name, v dnssec.Verdict, ds []dnssec.Anchor) []ZoneTrust {
	z := ZoneTrust{Zone: zone, Status: v.Status, Reason: v.Text}
	for _, a := range ds {
		if a.DS != nil {
			z.DS = append(z.DS, KeyRef{Tag: a.DS.KeyTag, Algorithm: a.DS.Algorithm, Digest: a.DS.DigestType})
		} else if k, err := dnssec.ParseDNSKEY(a.Key); err == nil {
			z.DS = append(z.DS, KeyRef{Tag: dnssec.KeyTag(a.Key), Algorithm: k.Algorithm, Flags: k.Flags})
		}
	}
	var up []ZoneTrust
	if above != nil {
		up = above.chain
	}
	return append(up[:len(up):len(up)], z)
}
