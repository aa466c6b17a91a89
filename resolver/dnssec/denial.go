package dnssec

import (
	"fmt"
	"time"
)

const typeANY uint16 = 255

// Denial holds the NSEC and NSEC3 RRsets of one zone that verified. RRsets
// that do not verify are left out. Immutable, and safe for concurrent use with
// a Budget for each goroutine.
type Denial struct {
	// Expires is the earliest end of a signature among what verified, zero
	// where nothing did.
	Expires time.Time
	TTL     uint32 // seconds, the lowest among what verified

	rules *Rules
	zone  Name
	nsec  []nsec
	nsec3 []nsec3
	// chains are the parameters that occur in nsec3.
	chains []params3
	// costly says that a verified NSEC3 had more iterations than are hashed at all.
	costly bool
	// seen says that there was an NSEC or NSEC3 RRset, of use or not.
	seen bool
	// fault is why an RRset that was left out did not verify: a limit, else the first.
	fault Verdict
	sets  []*RRset // what verified
}

// Proofs returns the RRsets that verified, in the order given.
func (d *Denial) Proofs() []*RRset { return d.sets }

// Denial verifies the NSEC and NSEC3 RRsets among sets (others are ignored).
func (k *Keys) Denial(sets []*RRset, now time.Time, b *Budget) *Denial {
	d := &Denial{rules: k.rules, zone: k.Zone}
	for _, set := range sets {
		if set.Type != typeNSEC && set.Type != typeNSEC3 {
			continue
		}
		d.seen = true
		found := d.read(set)
		if found.empty() {
			continue // nothing in it could be used: no need to check its signature
		}
		proof := k.Verify(set, now, b)
		if proof.Status != Secure {
			if d.fault.Reason == "" || d.fault.Status == Bogus && proof.Status == Indeterminate {
				d.fault = proof.Verdict
			}
			continue
		}
		if proof.Wildcard != "" {
			continue // it speaks of the wildcard, not of this owner (RFC 4035 §5.4)
		}
		d.add(found, proof.TTL, proof.Expires)
		d.sets = append(d.sets, set)
	}
	return d
}

// readings are the usable records of one RRset.
type readings struct {
	nsec  []nsec
	nsec3 []nsec3
}

func (f *readings) empty() bool { return len(f.nsec)+len(f.nsec3) == 0 }

// read decodes what can be used of an NSEC or NSEC3 RRset.
func (d *Denial) read(set *RRset) readings {
	var found readings
	for _, rdata := range set.Data {
		if set.Type == typeNSEC {
			if n, err := parseNSEC(d.zone, set.Name, rdata); err == nil {
				found.nsec = append(found.nsec, n)
			}
		} else if n, err := parseNSEC3(d.zone, set.Name, rdata); err == nil {
			found.nsec3 = append(found.nsec3, n)
		}
	}
	return found
}

// add takes in records that verified.
func (d *Denial) add(found readings, ttl uint32, expires time.Time) {
	if len(d.nsec)+len(d.nsec3) == 0 && !d.costly || ttl < d.TTL {
		d.TTL = ttl
	}
	if d.Expires.IsZero() || expires.Before(d.Expires) {
		d.Expires = expires
	}
	d.nsec = append(d.nsec, found.nsec...)
	for _, n := range found.nsec3 {
		if n.params.iterations > d.rules.MaxNSEC3Hashed {
			d.costly = true
			continue
		}
		d.nsec3 = append(d.nsec3, n)
		d.chain(n.params)
	}
}

// chain notes parameters in use.
func (d *Denial) chain(p params3) {
	for _, known := range d.chains {
		if known == p {
			return
		}
	}
	d.chains = append(d.chains, p)
}

// eachChain runs a proof on one NSEC3 chain after the other and returns the
// best outcome, and whether the budget did not suffice. What too many iterations
// prove is Insecure (RFC 9276 §3.2), but prove it they must: were any NSEC3 of the
// zone enough, an attacker could put one in the place of a TLSA RRset or of the
// signatures of one, and the zone's mail would go out unprotected. The RFC leaves
// that downgrade open, and Unbound and BIND have it.
func (d *Denial) eachChain(b *Budget, prove func(*chain3) outcome) (best outcome, over bool) {
	for _, p := range d.chains {
		c := chain3{denial: d, params: p, budget: b}
		found := prove(&c)
		if found != unproved && c.costly() {
			found = provedCostly
		}
		best = max(best, found)
		over = over || c.over
		if best == proved || over {
			break
		}
	}
	return best, over
}

// NoData judges the claim that name exists without a record of type (also by
// wildcard, empty non-terminal, RFC 4035 §3.1.3.1, §3.1.3.4, RFC 5155 §8.5-8.7). Secure: proved. Insecure: an
// opt-out span or an iteration count above the cap. Bogus: not proved.
func (d *Denial) NoData(name Name, qtype uint16, b *Budget) Verdict {
	if !name.IsSubdomainOf(d.zone) {
		return d.unproved(false, name, "has no record of the type asked for")
	}
	if d.nsecNoData(name, qtype) {
		return verdict(Secure, ReasonVerified, "")
	}
	best, over := d.eachChain(b, func(c *chain3) outcome { return c.noData(name, qtype) })
	if best != unproved {
		return d.came(best, name)
	}
	return d.unproved(over, name, "has no "+typeText(qtype)+" record")
}

// NameError judges the claim that name does not exist, nor a wildcard for it
// (RFC 4035 §3.1.3.2, RFC 5155 §8.4).
func (d *Denial) NameError(name Name, b *Budget) Verdict {
	if !name.IsSubdomainOf(d.zone) {
		return d.unproved(false, name, "does not exist")
	}
	if d.nsecNameError(name) {
		return verdict(Secure, ReasonVerified, "")
	}
	best, over := d.eachChain(b, func(c *chain3) outcome { return c.nameError(name) })
	if best != unproved {
		return d.came(best, name)
	}
	return d.unproved(over, name, "does not exist")
}

// WildcardAnswer judges the expansion of *.encloser to name: nothing closer
// to name may exist (RFC 4035 §3.1.3.3, RFC 5155 §8.8).
func (d *Denial) WildcardAnswer(name, encloser Name, b *Budget) Verdict {
	const claim = "does not exist beside the wildcard that answered for it"
	if !name.IsBelow(encloser) || !encloser.IsSubdomainOf(d.zone) {
		return d.unproved(false, name, claim)
	}
	nextCloser := name.Ancestor(encloser.Labels() + 1)
	if d.nsecDenies(nextCloser) {
		return verdict(Secure, ReasonVerified, "")
	}
	best, over := d.eachChain(b, func(c *chain3) outcome {
		_, cover := c.find(nextCloser)
		return by(cover)
	})
	if best != unproved {
		return d.came(best, name)
	}
	return d.unproved(over, name, claim)
}

// Delegation is what a denial of DS proved about a name.
type Delegation uint8

const (
	NotProved    Delegation = iota
	Unsigned                // a zone cut without DS: the child is Insecure
	OptOut                  // covered by an NSEC3 opt-out span: Insecure if it is a cut
	NotACut                 // the name exists (or not) in this zone, and no zone starts there
	TooExpensive            // iterations beyond what is hashed, or keys out of bounds: Insecure
)

// NoDS judges the denial of DS at name, sent from the parent side
// (RFC 4035 §5.2, RFC 5155 §8.6, §8.9). NSEC from the child side never counts.
// The verdict is that of what stands at name: Insecure for Unsigned, OptOut
// and TooExpensive, Secure for NotACut, Bogus or Indeterminate for NotProved.
func (d *Denial) NoDS(name Name, b *Budget) (Delegation, Verdict) {
	const claim = "has no DS record"
	if !name.IsBelow(d.zone) {
		return NotProved, d.unproved(false, name, claim)
	}
	found, over := d.nsecNoDS(name), false
	for i := 0; i < len(d.chains) && found == NotProved && !over; i++ {
		c := chain3{denial: d, params: d.chains[i], budget: b}
		found, over = c.noDS(name), c.over
	}
	switch found {
	case NotACut:
		return found, verdict(Secure, ReasonVerified, "")
	case Unsigned:
		return found, verdict(Insecure, ReasonUnsignedDelegate,
			fmt.Sprintf("%s delegates %s without a DS record", d.zone, name))
	case OptOut:
		return found, d.came(provedOptOut, name)
	}
	v := d.unproved(over, name, claim)
	if v.Status == Insecure {
		return TooExpensive, v
	}
	return NotProved, v
}

// came is the verdict on a proof that came to something.
func (d *Denial) came(o outcome, name Name) Verdict {
	switch o {
	case proved:
		return verdict(Secure, ReasonVerified, "")
	case provedCostly:
		return d.expensive()
	}
	return verdict(Insecure, ReasonOptOut, fmt.Sprintf(
		"%s is in an opt-out span of %s, where unsigned delegations are not listed", name, d.zone))
}

// unproved is the verdict on a claim about name that was not proved.
func (d *Denial) unproved(over bool, name Name, claim string) Verdict {
	switch {
	case over:
		return verdict(Indeterminate, ReasonLimitNSEC3Hashes,
			"gave up on the proof that "+name.String()+" "+claim+": "+limitText(ReasonLimitNSEC3Hashes))
	case d.fault.Reason != "" && d.fault.Status != Bogus:
		return d.fault
	case d.costly:
		// A deviation from what eachChain holds to: such a count may cost seconds,
		// and the zone breaks RFC 5155 §10.3 by it.
		return d.expensive()
	case d.fault.Reason != "":
		return d.fault
	case !d.seen:
		return verdict(Bogus, ReasonNSECMissing,
			"the signed zone "+d.zone.String()+" sent no NSEC or NSEC3 record to prove that "+name.String()+" "+claim)
	}
	// No Sprintf here: a cache that tries many proofs in vain comes by often.
	return verdict(Bogus, ReasonNSECMismatch,
		"the NSEC or NSEC3 records of "+d.zone.String()+" do not prove that "+name.String()+" "+claim)
}

// expensive is the verdict on NSEC3 records with too many iterations.
func (d *Denial) expensive() Verdict {
	return verdict(Insecure, ReasonNSEC3Iterations, fmt.Sprintf(
		"the NSEC3 records of %s hash with more than %d iterations", d.zone, d.rules.MaxNSEC3Iterations))
}

// Join returns what several proofs of one zone prove together (RFC 8198). All
// must come from the same Keys, or from ones of the same zone and Rules.
func Join(each ...*Denial) *Denial {
	if len(each) == 1 {
		return each[0]
	}
	joined := &Denial{}
	for _, d := range each {
		joined.rules, joined.zone = d.rules, d.zone
		joined.seen = joined.seen || d.seen
		joined.add(readings{nsec: d.nsec, nsec3: d.nsec3}, d.TTL, d.Expires)
		joined.costly = joined.costly || d.costly
		joined.sets = append(joined.sets, d.sets...)
	}
	return joined
}
