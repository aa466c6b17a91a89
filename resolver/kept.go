package resolver

import (
	"encoding/binary"

	"danepost/resolver/dnssec"
)

// kept is how the cache holds the judged answer to one question when no alias
// leads to it: the Answer as callers get it, and the RRsets behind it packed. It stands for the
// fact as well, so that what proves 10,000 mail domains fits into 32 MB.
type kept struct {
	answer Answer
	sets   []byte // packed: the RRset asked for, if there is one, then what proves the answer
	zone   uint8  // labels of the zone whose servers said it
	rank   rank
	has    bool // the first of sets is the RRset asked for
}

func (k *kept) bytes() int {
	return 288 + 48*len(k.answer.RRs) + 24*len(k.answer.Links) + len(k.sets) + len(k.answer.Text)
}

// pack makes the short form of o, nil where it has none.
func (o *outcome) pack() *kept {
	if len(o.steps) != 1 || o.steps[0].alias || o.failed() {
		return nil
	}
	f := o.steps[0].fact
	if len(f.more) > 0 || f.note != "" || f.rcode != rcodeNoError || !o.answer.Name.IsSubdomainOf(f.zone) {
		return nil
	}
	k := &kept{answer: *o.answer, zone: uint8(f.zone.Labels()), rank: f.rank, has: f.set != nil}
	k.answer.Queries, k.answer.RRs = 0, nil
	size := 0
	if f.set != nil {
		size += packedSize(f.set)
	}
	for _, s := range f.proof {
		size += packedSize(s)
	}
	p := setPacker{name: o.answer.Name, b: make([]byte, 0, size)}
	if f.set != nil {
		p.add(f.set)
	}
	for _, s := range f.proof {
		p.add(s)
	}
	k.sets = p.b
	if f.set != nil {
		first, _ := unpackSet(k.sets, o.answer.Name)
		first.Name = k.answer.Name
		k.answer.RRs = records(first)
	}
	return k
}

// fact unpacks what servers said.
func (k *kept) fact() *fact {
	a := &k.answer
	f := &fact{
		name: a.Name, qtype: a.Type, rcode: a.Rcode, rank: k.rank, zone: a.Name.Ancestor(int(k.zone)), expires: a.Expires,
		judged: &judgement{Verdict: a.Verdict, chain: a.Chain, ends: a.SignatureEnd},
	}
	for b := k.sets; len(b) > 0; {
		s, n := unpackSet(b, a.Name)
		if k.has && f.set == nil {
			f.set = s
		} else {
			f.proof = append(f.proof, s)
		}
		b = b[n:]
	}
	return f
}

// outcome unpacks the whole.
func (k *kept) outcome() *outcome {
	f := k.fact()
	return &outcome{
		answer: &k.answer, rcode: k.answer.Rcode, verdict: k.answer.Verdict, expires: k.answer.Expires,
		steps: []step{{name: k.answer.Name, fact: f, j: f.judged}},
	}
}

// sameName stands in a packed set for the name of the question.
const sameName = 0xff

// setPacker writes RRsets in a form of its own: owner, type, TTL, number of
// records and of signatures; then each record with its length; then each
// signature as its TTL and its RDATA with length.
type setPacker struct {
	name dnssec.Name
	b    []byte
}

func packedSize(s *dnssec.RRset) int {
	size := len(s.Name) + 2 + 4 + 4
	for _, d := range s.Data {
		size += 2 + len(d)
	}
	for i := range s.Sigs {
		size += 4 + 2 + 18 + len(s.Sigs[i].Signer) + len(s.Sigs[i].Signature)
	}
	return size
}

func (p *setPacker) add(s *dnssec.RRset) {
	if s.Name == p.name {
		p.b = append(p.b, sameName)
	} else {
		p.b = append(p.b, s.Name...)
	}
	p.b = binary.BigEndian.AppendUint16(p.b, s.Type)
	p.b = binary.BigEndian.AppendUint32(p.b, s.TTL)
	p.b = binary.BigEndian.AppendUint16(p.b, uint16(len(s.Data)))
	p.b = binary.BigEndian.AppendUint16(p.b, uint16(len(s.Sigs)))
	for _, d := range s.Data {
		p.b = binary.BigEndian.AppendUint16(p.b, uint16(len(d)))
		p.b = append(p.b, d...)
	}
	for i := range s.Sigs {
		p.b = binary.BigEndian.AppendUint32(p.b, s.Sigs[i].TTL)
		at := len(p.b)
		p.b = append(p.b, 0, 0)
		p.b = appendRRSIG(p.b, &s.Sigs[i])
		binary.BigEndian.PutUint16(p.b[at:], uint16(len(p.b)-at-2))
	}
}

// packSet packs one RRset whose owner is known to the reader.
func packSet(s *dnssec.RRset) []byte {
	if s == nil {
		return nil
	}
	p := setPacker{name: s.Name, b: make([]byte, 0, packedSize(s))}
	p.add(s)
	return p.b
}

// unpackSet reads the RRset at the start of b, which setPacker wrote, and
// returns how many octets it took. Its data are slices of b.
func unpackSet(b []byte, name dnssec.Name) (*dnssec.RRset, int) {
	at := 1
	if b[0] != sameName {
		name, at, _ = readName(b)
	}
	s := &dnssec.RRset{Name: name, Type: binary.BigEndian.Uint16(b[at:]), Class: classIN, TTL: binary.BigEndian.Uint32(b[at+2:])}
	s.Data = make([][]byte, binary.BigEndian.Uint16(b[at+6:]))
	if n := binary.BigEndian.Uint16(b[at+8:]); n > 0 {
		s.Sigs = make([]dnssec.RRSIG, n)
	}
	at += 10
	next := func() []byte {
		end := at + 2 + int(binary.BigEndian.Uint16(b[at:]))
		d := b[at+2 : end : end]
		at = end
		return d
	}
	for i := range s.Data {
		s.Data[i] = next()
	}
	for i := range s.Sigs {
		ttl := binary.BigEndian.Uint32(b[at:])
		at += 4
		s.Sigs[i], _ = dnssec.ParseRRSIG(next())
		s.Sigs[i].TTL = ttl
	}
	return s, at
}

// factAt returns what is known about a name and type: as a fact of its own, or
// behind an answer.
func (x *resolution) factAt(name dnssec.Name, qtype uint16) *fact {
	c := x.r.cache
	if f, ok := c.get(cacheKey{name, qtype, kindFact}, x.now).(*fact); ok {
		return f
	}
	if k, ok := c.get(cacheKey{name, qtype, kindOutcome}, x.now).(*kept); ok {
		return k.fact()
	}
	return nil
}

// holds reports whether zone is known to hold a record of that name and type.
func (x *resolution) holds(zone, name dnssec.Name, qtype uint16) bool {
	c := x.r.cache
	if f, ok := c.get(cacheKey{name, qtype, kindFact}, x.now).(*fact); ok {
		return f.zone == zone && f.name == name
	}
	k, ok := c.get(cacheKey{name, qtype, kindOutcome}, x.now).(*kept)
	return ok && int(k.zone) == zone.Labels()
}

// keepOutcome puts the end of a resolution into the cache, in the short form if it has one; the
// fact behind it needs no entry of its own then.
func (x *resolution) keepOutcome(q question, o *outcome) {
	key := cacheKey{q.name, q.qtype, kindOutcome}
	if k := o.pack(); k != nil {
		x.r.cache.put(key, k, o.expires)
		if f := o.steps[0].fact; !f.expires.After(o.expires) {
			x.r.cache.drop(cacheKey{q.name, q.qtype, kindFact})
		}
		return
	}
	x.r.cache.put(key, o.settled(), o.expires)
}

// cachedAnswer returns the answer to a question from the cache, nil if it has none.
func (r *Resolver) cachedAnswer(q question) *Answer {
	switch v := r.cache.get(cacheKey{q.name, q.qtype, kindOutcome}, r.now()).(type) {
	case *kept:
		return &v.answer
	case *outcome:
		return v.answer
	}
	return nil
}

// cachedOutcome is cachedAnswer with what stands behind the answer.
func (r *Resolver) cachedOutcome(q question) *outcome {
	switch v := r.cache.get(cacheKey{q.name, q.qtype, kindOutcome}, r.now()).(type) {
	case *kept:
		return v.outcome()
	case *outcome:
		return v
	}
	return nil
}
