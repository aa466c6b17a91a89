package dnssec

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestPublishedSignatures verifies the examples of the RFCs that define the
// algorithms: signatures that nobody here made.
func TestPublishedSignatures(t *testing.T) {
	text, err := os.ReadFile("testdata/published.txt")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "\n\n")[1:]
	for _, block := range blocks {
		what, records, _ := strings.Cut(block, "\n")
		t.Run(strings.TrimPrefix(what, "; "), func(t *testing.T) { verifyPublished(t, records) })
	}
	if len(blocks) < 5 {
		t.Errorf("only %d examples found", len(blocks))
	}
}

func verifyPublished(t *testing.T, records string) {
	r := DefaultRules(false)
	r.MinRSABits = 512
	keys, set := &Keys{rules: r}, &RRset{}
	var now time.Time
	in := dns.NewZoneParser(strings.NewReader(records), ".", "")
	for rr, ok := in.Next(); ok; rr, ok = in.Next() {
		owner, rdata := name(t, rr.Header().Name), received(t, rr)
		switch rr := rr.(type) {
		case *dns.DNSKEY:
			keys.Zone, keys.keys = owner, []zoneKey{r.prepare(rdata)}
		case *dns.DS:
			ds, err := ParseDS(rdata)
			if err != nil || !r.MatchDS(owner, keys.keys[0].rdata, &ds) {
				t.Errorf("the DS does not fit the key: %v", err)
			}
		case *dns.RRSIG:
			sig, err := ParseRRSIG(rdata)
			if err != nil {
				t.Fatal(err)
			}
			now = time.Unix(int64(rr.Inception), 0)
			set.Sigs = append(set.Sigs, sig)
		default:
			set.Name, set.Type, set.Class, set.Data = owner, rr.Header().Rrtype, 1, append(set.Data, rdata)
		}
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
	wantVerdict(t, keys.Verify(set, now, plenty()).Verdict, Secure, ReasonVerified)
	set.Data[0][0] ^= 1
	wantVerdict(t, keys.Verify(set, now, plenty()).Verdict, Bogus, ReasonSignatureBogus)
}
