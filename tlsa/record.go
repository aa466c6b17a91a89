package tlsa

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"strings"
)

// Certificate usages (RFC 7218 §2.1).
const (
	PKIXTA uint8 = 0
	PKIXEE uint8 = 1
	DANETA uint8 = 2
	DANEEE uint8 = 3
)

// Selectors (RFC 7218 §2.2).
const (
	Cert uint8 = 0
	SPKI uint8 = 1
)

// Matching types (RFC 7218 §2.3).
const (
	Full   uint8 = 0
	SHA256 uint8 = 1
	SHA512 uint8 = 2
)

// Record is one TLSA record (RFC 6698 §2.1). Treat Data as read-only.
type Record struct {
	Usage    uint8
	Selector uint8
	Matching uint8
	Data     []byte // certificate association data

	short []byte // the whole RDATA where it is too short to hold the three numbers
}

// ParseRecord decodes RDATA. Every RDATA is a record; one that is too short
// is a record that cannot be used. The result keeps no reference to rdata.
func ParseRecord(rdata []byte) Record {
	b := bytes.Clone(rdata)
	if len(b) < 3 {
		return Record{short: append([]byte{}, b...)}
	}
	return Record{Usage: b[0], Selector: b[1], Matching: b[2], Data: b[3:]}
}

// String returns the presentation format: "3 1 1 hex", in lower case. RDATA
// shorter than three bytes has the form of RFC 3597 §5, e.g. `\# 1 03`.
func (r Record) String() string {
	if r.short != nil {
		return strings.TrimSpace(fmt.Sprintf(`\# %d %x`, len(r.short), r.short))
	}
	return strings.TrimSpace(fmt.Sprintf("%d %d %d %x", r.Usage, r.Selector, r.Matching, r.Data))
}

// Short is String with the data cut to its first eight bytes, for messages.
func (r Record) Short() string {
	const most = 8
	if r.short != nil || len(r.Data) <= most {
		return r.String()
	}
	return fmt.Sprintf("%d %d %d %s…", r.Usage, r.Selector, r.Matching, hex.EncodeToString(r.Data[:most]))
}

// Usable reports whether SMTP can use the record (RFC 7672 §2.1.1, §3.1.3),
// and if not, why, in words.
func (r Record) Usable() (ok bool, reason string) {
	if r.short != nil || len(r.Data) == 0 {
		return false, "it is too short to be a TLSA record"
	}
	switch r.Usage {
	case DANETA, DANEEE:
	case PKIXTA, PKIXEE:
		// RFC 7672 §3.1.3: SMTP has no set of public authorities to go with these.
		return false, fmt.Sprintf("certificate usage %d is not for SMTP", r.Usage)
	default:
		return false, fmt.Sprintf("certificate usage %d is unknown", r.Usage)
	}
	if r.Selector > SPKI {
		return false, fmt.Sprintf("selector %d is unknown", r.Selector)
	}
	switch r.Matching {
	case Full:
		return r.usableFull()
	case SHA256:
		return digestLength(len(r.Data), sha256.Size, "SHA-256")
	case SHA512:
		return digestLength(len(r.Data), sha512.Size, "SHA-512")
	}
	return false, fmt.Sprintf("matching type %d is unknown", r.Matching)
}

// usableFull judges a record that holds a whole certificate or key. DANE-EE
// compares bytes and needs nothing of them; for DANE-TA they must be what the
// selector says. That is judged by shape alone, never by whether a parser
// likes it: an authority that we cannot read must end in a deferral, not in
// a delivery to a server that nobody authenticated.
func (r Record) usableFull() (bool, string) {
	switch {
	case r.Usage == DANEEE:
		return true, ""
	case r.Selector == Cert && !isCertificate(r.Data):
		return false, "its data is not a certificate"
	case r.Selector == SPKI && !isPublicKey(r.Data):
		return false, "its data is not a public key"
	}
	return true, ""
}

func digestLength(have, want int, name string) (bool, string) {
	if have != want {
		return false, fmt.Sprintf("a %s digest has %d bytes, not %d", name, want, have)
	}
	return true, ""
}

// Usable returns the records that SMTP can use, in order. If records exist
// and none is usable, TLS is mandatory but nobody can be authenticated
// (RFC 7672 §2.2).
func Usable(records []Record) []Record {
	var out []Record
	for _, r := range records {
		if ok, _ := r.Usable(); ok {
			out = append(out, r)
		}
	}
	return out
}

// strongest applies digest agility to usable records: within one usage and
// selector only the strongest digest counts, next to Full which is no digest
// (RFC 7671 §9). The numbers of the matching types rise with their strength.
func strongest(usable []Record) []Record {
	type group struct{ usage, selector uint8 }
	best := map[group]uint8{}
	for _, r := range usable {
		g := group{r.Usage, r.Selector}
		best[g] = max(best[g], r.Matching)
	}
	var out []Record
	for _, r := range usable {
		if r.Matching == Full || r.Matching == best[group{r.Usage, r.Selector}] {
			out = append(out, r)
		}
	}
	return out
}

// presented is a certificate that a server showed, with what records can say
// of it, each computed once however many records there are.
type presented struct {
	der  []byte
	data [2][3][]byte // by selector and matching type
}

// is reports whether the record's data is that of the certificate. The key is
// taken as it stands in the certificate, never encoded anew.
func (p *presented) is(r Record) bool {
	if r.Selector > SPKI || r.Matching > SHA512 {
		return false
	}
	data := &p.data[r.Selector][r.Matching]
	if *data == nil {
		*data = p.associate(r.Selector, r.Matching)
	}
	return len(*data) > 0 && bytes.Equal(*data, r.Data)
}

// associate computes certificate association data (RFC 6698 §2.1.4); it is
// empty, not nil, where the certificate has no such part.
func (p *presented) associate(selector, matching uint8) []byte {
	selected := p.der
	if selector == SPKI {
		var ok bool
		if selected, ok = publicKeyOf(p.der); !ok {
			return []byte{}
		}
	}
	switch matching {
	case SHA256:
		return digest256(selected)
	case SHA512:
		sum := sha512.Sum512(selected)
		return sum[:]
	}
	return selected
}

// what names the thing that the selector selects.
func (r Record) what() string {
	if r.Selector == SPKI {
		return "key"
	}
	return "certificate"
}

func digest256(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}
