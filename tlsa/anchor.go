package tlsa

// matchTA looks for a DANE-TA record of an authority that issued the server's
// certificate.
func matchTA(records []Record, q Query) Verdict {
	return Verdict{Outcome: NoMatch, Depth: -1, Cause: CauseNoMatch, Reason: "no TLSA record is that of the server's certificate"}
}
