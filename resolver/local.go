package resolver

import (
	"context"

	"danepost/resolver/dnssec"
)

// knownResponse answers a question without recursion (RFC 1034 §4.3.1): from the cache, or
// by a referral to the closest zone known. Nobody is asked about the name; only keys
// that are missing to judge what is known are fetched.
func (r *Resolver) knownResponse(ctx context.Context, q Question) *Response {
	k := question{q.Name, q.Type}
	if o := r.cachedOutcome(k); o != nil && !q.CD {
		return o.response(q, r.now())
	}
	if o := r.special(k); o != nil {
		return o.response(q, r.now())
	}
	ctx, cancel := context.WithTimeout(ctx, r.lim.Time)
	defer cancel()
	x := r.newResolution(ctx)
	x.offline = true
	o := x.answer(k, !q.CD)
	if len(o.steps) > 0 || o.verdict.Reason != reasonUnknown {
		return o.response(q, r.now())
	}
	x.offline = false
	return x.referralTo(q, x.best(k))
}

// reasonUnknown is that of a question without recursion for which the cache has nothing.
const reasonUnknown dnssec.Reason = "not-cached"

// referralTo names the servers of a zone. The NS RRset that the zone shows itself is preferred:
// it is the one that is signed.
func (x *resolution) referralTo(q Question, d *delegation) *Response {
	resp := &Response{Question: q, Expires: d.expires}
	left := remaining(d.expires, x.now)
	f, ok := x.r.cache.get(cacheKey{d.zone, 0, kindZoneNS}, x.now).(*fact)
	switch {
	case ok:
		j := x.judge(question{d.zone, TypeNS}, f)
		resp.Verdict, resp.AD = j.Verdict, j.Status == dnssec.Secure
		resp.Authority = appendSet(nil, f.set, left)
	case d.zone == dnssec.Root:
		// Not in the authority section, where it would look like an upward
		// referral by a lame server.
		resp.Answer = d.records(left)
	default:
		resp.Authority = d.records(left)
	}
	return resp
}

// records writes the servers of a delegation as NS records.
func (d *delegation) records(ttl uint32) []RR {
	var out []RR
	for _, s := range d.servers {
		out = append(out, RR{d.zone, TypeNS, ttl, []byte(s.Name)})
	}
	return out
}
