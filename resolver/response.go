package resolver

import (
	"context"
	"encoding/binary"
	"time"

	"danepost/resolver/dnssec"
)

// Question is what a DNS client asks, class IN.
type Question struct {
	Name dnssec.Name // in lower case
	Type uint16
	CD   bool // the client validates by itself (RFC 4035 §3.2.2)
	// Local asks for what is known only, as a query without RD does.
	Local bool
}

// EDE is an extended DNS error (RFC 8914).
type EDE struct {
	Code uint16
	Text string
}

// Response is what a DNS client is told: sections with their DNSSEC records,
// which a listener leaves out for clients that did not set DO.
type Response struct {
	Question
	Rcode int
	AD    bool // all of it is Secure (RFC 4035 §3.2.3)

	Answer, Authority, Additional []RR

	EDE     []EDE
	Verdict dnssec.Verdict
	Expires time.Time
}

// Query resolves q and returns the whole result that a DNS client would get. It honours ctx.
func (r *Resolver) Query(ctx context.Context, q Question) *Response {
	check := !q.CD
	if r.clock[q.Name] && r.ready() != nil {
		check = false
	}
	if q.Local {
		return r.knownResponse(ctx, q)
	}
	o := r.resolve(ctx, question{q.Name, q.Type}, check)
	resp := o.response(q, r.now())
	if r.sentinel(q, o) {
		return &Response{Question: q, Rcode: rcodeServFail, Verdict: o.verdict}
	}
	return resp
}

// response writes an outcome out as sections.
func (o *outcome) response(q Question, now time.Time) *Response {
	resp := &Response{Question: q, Rcode: o.rcode, Verdict: o.verdict, Expires: o.expires}
	if o.verdict.EDE >= 0 && o.verdict.Reason != "not-checked" {
		resp.EDE = append(resp.EDE, EDE{uint16(o.verdict.EDE), o.verdict.Text})
	}
	for _, s := range o.steps {
		if s.fact.note != "" {
			resp.EDE = append(resp.EDE, EDE{edeOther, s.fact.note})
			break
		}
	}
	if o.failed() {
		resp.Rcode = rcodeServFail
		return resp
	}
	// No signature covers an RCODE that was computed here.
	resp.AD = o.verdict.Status == dnssec.Secure && o.rcode != rcodeYXDomain
	for _, s := range o.steps {
		left := remaining(s.fact.expires, now)
		if s.fact.set != nil {
			resp.Answer = appendSet(resp.Answer, s.fact.set, left)
			for _, more := range s.fact.more {
				resp.Answer = appendSet(resp.Answer, more, left)
			}
			if s.alias && s.fact.set.Type == TypeDNAME {
				resp.Answer = append(resp.Answer, s.synthesised(left)...)
			}
		}
		if s.fact.extra != nil {
			resp.Authority = appendSet(resp.Authority, s.fact.extra, left)
		}
		for _, p := range s.fact.proof {
			if !hasRR(resp.Authority, p.Name, p.Type) {
				resp.Authority = appendSet(resp.Authority, p, left)
			}
		}
	}
	return resp
}

// remaining returns what is left of a TTL, in seconds.
func remaining(expires, now time.Time) uint32 {
	return uint32(max(0, expires.Unix()-now.Unix()))
}

// appendSet adds an RRset and its signatures, with no more TTL than left.
func appendSet(out []RR, s *dnssec.RRset, left uint32) []RR {
	ttl := min(s.TTL, left)
	for _, d := range s.Data {
		out = append(out, RR{s.Name, s.Type, ttl, d})
	}
	for i := range s.Sigs {
		out = append(out, RR{s.Name, typeRRSIG, ttl, packRRSIG(&s.Sigs[i])})
	}
	return out
}

func hasRR(rrs []RR, name dnssec.Name, rtype uint16) bool {
	for _, rr := range rrs {
		if rr.Type == rtype && rr.Name == name {
			return true
		}
	}
	return false
}

// packRRSIG writes RRSIG RDATA (RFC 4034 §3.1).
func packRRSIG(s *dnssec.RRSIG) []byte {
	return appendRRSIG(make([]byte, 0, 18+len(s.Signer)+len(s.Signature)), s)
}

func appendRRSIG(b []byte, s *dnssec.RRSIG) []byte {
	b = binary.BigEndian.AppendUint16(b, s.TypeCovered)
	b = append(b, s.Algorithm, s.Labels)
	b = binary.BigEndian.AppendUint32(b, s.OriginalTTL)
	b = binary.BigEndian.AppendUint32(b, s.Expiration)
	b = binary.BigEndian.AppendUint32(b, s.Inception)
	b = binary.BigEndian.AppendUint16(b, s.KeyTag)
	b = append(b, s.Signer...)
	return append(b, s.Signature...)
}

// synthesised returns the CNAME that a DNAME stands for (RFC 6672 §3.1).
func (s step) synthesised(ttl uint32) []RR {
	to, ok := substitute(s.name, s.fact.set.Name, target(s.fact.set.Data[0]))
	if !ok {
		return nil
	}
	return []RR{{s.name, TypeCNAME, min(ttl, s.fact.set.TTL), []byte(to)}}
}
