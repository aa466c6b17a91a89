package resolver

import "danepost/resolver/dnssec"

// firstLabel returns the octets of the first label, "" for the root.
func firstLabel(n dnssec.Name) string {
	if len(n) <= 1 {
		return ""
	}
	return string(n[1 : 1+int(n[0])])
}

// readName reads the uncompressed name at the start of b, letter case kept.
func readName(b []byte) (name dnssec.Name, size int, ok bool) {
	_, n, err := dnssec.ReadName(b)
	if err != nil {
		return "", 0, false
	}
	return dnssec.Name(b[:n]), n, true
}
