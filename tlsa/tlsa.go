// Package tlsa decides whether a server's certificate chain is one that its
// TLSA records allow (RFC 6698, RFC 7671) under the rules of SMTP (RFC 7672).
// It is pure and uses the standard library only: records, certificates as
// DER, names and a time go in; a Verdict comes out.
package tlsa
