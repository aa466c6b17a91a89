package trustanchor

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"danepost/resolver/dnssec"
)

// rootKey is a key signing key of the simulated root.
type rootKey struct {
	dnskey *dns.DNSKEY
	signer crypto.Signer
	// When it is in the set, signs it, is revoked and gone. Zero: never.
	published, signing, revoked, gone time.Time
}

// at reports whether the key is in the set at now, and whether it is revoked
// or signs.
func (k *rootKey) at(now time.Time) (in, signs, revoked bool) {
	past := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	in = past(k.published) && !past(k.gone)
	revoked = in && past(k.revoked)
	return in, in && (past(k.signing) || revoked), revoked
}

// rootTTL is that of the simulated set, in seconds: longer than the real
// one's two days, so that ten years take fewer queries.
const rootTTL = 6 * 24 * 3600

// root is a simulated root zone with real Ed25519 signatures.
type root struct {
	t    testing.TB
	keys []*rootKey

	mu      sync.Mutex
	offline bool
	hostile []*rootKey // answers come from somebody else's root while set
	asked   int
}

// change sets how the root answers from now on.
func (r *root) change(offline bool, hostile ...*rootKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offline, r.hostile = offline, hostile
}

func (r *root) queries() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func newRoot(t testing.TB, n int) *root {
	r := &root{t: t}
	for range n {
		r.keys = append(r.keys, newKey(t))
	}
	return r
}

func newKey(t testing.TB) *rootKey {
	t.Helper()
	k := &rootKey{dnskey: &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: ".", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: rootTTL},
		Flags: 257, Protocol: 3, Algorithm: dns.ED25519,
	}}
	private, err := k.dnskey.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	k.signer = private.(crypto.Signer)
	return k
}

func (k *rootKey) rdata(t testing.TB, flags uint16) []byte {
	t.Helper()
	rdata, err := dnskeyForTest(k.dnskey, flags)
	if err != nil {
		t.Fatal(err)
	}
	return rdata
}

func dnskeyForTest(key *dns.DNSKEY, flags uint16) ([]byte, error) {
	plain, err := dnskeyRDATA(257, key.Protocol, key.Algorithm, key.PublicKey)
	if err == nil {
		plain[0], plain[1] = byte(flags>>8), byte(flags)
	}
	return plain, err
}

// anchor is the key's DS as a trust anchor.
func (k *rootKey) anchor(t testing.TB) Configured {
	t.Helper()
	rdata := k.rdata(t, 257)
	ds := &dnssec.DS{KeyTag: dnssec.KeyTag(rdata), Algorithm: 15, DigestType: digestSHA256, Digest: digestOf(dnssec.Root, rdata, digestSHA256)}
	return Configured{Anchor: dnssec.Anchor{Zone: dnssec.Root, DS: ds}}
}

var errOffline = errors.New("network is unreachable")

// fetch answers as the root's servers would at now.
func (r *root) fetch(now time.Time) (*dnssec.RRset, error) {
	r.mu.Lock()
	r.asked++
	offline, keys := r.offline, r.keys
	if r.hostile != nil {
		keys = r.hostile
	}
	r.mu.Unlock()
	if offline {
		return nil, errOffline
	}
	return r.answer(keys, now)
}

// answer is the DNSKEY set made of keys.
func (r *root) answer(keys []*rootKey, now time.Time) (*dnssec.RRset, error) {
	var rrs []dns.RR
	var signers []*rootKey
	set := &dnssec.RRset{Name: dnssec.Root, Type: dns.TypeDNSKEY, Class: dns.ClassINET, TTL: rootTTL}
	for _, k := range keys {
		in, signs, revoked := k.at(now)
		if !in {
			continue
		}
		shown := *k.dnskey
		if revoked {
			shown.Flags |= dns.REVOKE
		}
		rrs = append(rrs, &shown)
		set.Data = append(set.Data, k.rdata(r.t, shown.Flags))
		if signs {
			signers = append(signers, &rootKey{dnskey: &shown, signer: k.signer})
		}
	}
	for _, k := range signers {
		sig, err := sign(k, rrs, now)
		if err != nil {
			return nil, err
		}
		set.Sigs = append(set.Sigs, sig)
	}
	return set, nil
}

// sign makes a signature from ten days before now to eleven days after.
func sign(k *rootKey, rrs []dns.RR, now time.Time) (dnssec.RRSIG, error) {
	sig := &dns.RRSIG{
		Hdr: dns.RR_Header{Ttl: rootTTL}, Algorithm: k.dnskey.Algorithm, KeyTag: k.dnskey.KeyTag(), SignerName: ".",
		Inception: uint32(now.AddDate(0, 0, -10).Unix()), Expiration: uint32(now.AddDate(0, 0, 11).Unix()),
	}
	if err := sig.Sign(k.signer, rrs); err != nil {
		return dnssec.RRSIG{}, err
	}
	buf := make([]byte, 1024)
	n, err := dns.PackRR(sig, buf, 0, nil, false)
	if err != nil {
		return dnssec.RRSIG{}, err
	}
	return dnssec.ParseRRSIG(buf[11:n]) // after the root's name and ten octets
}

// validates reports whether a resolver that starts from the keeper's anchors
// gets the root's keys.
func (r *root) validates(k *Keeper, now time.Time) error {
	set, err := r.answer(r.keys, now)
	if err != nil {
		return err
	}
	budget := &dnssec.Budget{SignatureChecks: 64, FailedChecks: 32}
	if _, verdict := dnssec.DefaultRules(false).TrustKeys(set, k.Anchors(), now, budget); verdict.Status != dnssec.Secure {
		return fmt.Errorf("%s: %s", verdict.Status, verdict.Text)
	}
	return nil
}

// keeper opens a Keeper on the simulated root.
func (r *root) keeper(path string, now func() time.Time, anchors ...Configured) *Keeper {
	r.t.Helper()
	k, err := Open(Config{
		Path: path, Configured: anchors, Now: now, Random: func() float64 { return 0.3 }, Built: time.Unix(0, 0),
		Fetch: func(context.Context, dnssec.Name) (*dnssec.RRset, error) { return r.fetch(now()) },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return k
}
