package dnssec

// Name is a domain name in uncompressed wire format (RFC 1035 §3.1), ASCII
// letters lower-cased unless said otherwise; the root is "\x00". Being a
// string it is a map key, and its parents are slices of it.
type Name string

// Root is the name of the DNS root.
const Root Name = "\x00"

// ParseName reads a name in presentation format, with or without the final
// dot, escapes as in RFC 1035 §5.1, and lower-cases it.
func ParseName(s string) (Name, error) { panic("skeleton") }

// String returns the presentation format with the final dot.
func (n Name) String() string { panic("skeleton") }

// Lower returns n with its ASCII letters in lower case (RFC 4034 §6.2).
func (n Name) Lower() Name { panic("skeleton") }
