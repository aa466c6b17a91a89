package deliver

import "time"

// The table of limits: what a stranger's server or zone may make us do.
const (
	maxChain      = 10       // certificates in a chain judged by the Web PKI
	maxReplyLine  = 2048     // bytes; RFC 5321 §4.5.3.1.5 allows 512
	maxReplyLines = 128      // lines of one reply
	maxReplyBytes = 32 << 10 // of one reply

	maxHosts     = 20 // MX hosts looked at for one delivery
	maxAddresses = 8  // addresses tried of one host
	maxSessions  = 10 // connections that one delivery opens

	maxRecipients     = 100                    // of one transaction (RFC 5321 §4.5.3.1.8)
	maxUses           = 100                    // messages over one connection
	maxConnectionAge  = 5 * time.Minute        // after which it takes no new message
	idleTime          = 10 * time.Second       // a connection waits for its next message
	againTime         = 30 * time.Second       // for the first reply on a connection that was idle; then a new one is opened
	quitTime          = 2 * time.Second        // for the answer to QUIT
	maxTalk           = 30 * time.Minute       // all commands and replies of a session, content aside
	minRate           = 2 << 10                // bytes per second a receiver must take content at, over the whole message
	staggering        = 250 * time.Millisecond // between connection attempts (RFC 8305 §5)
	chunkSize         = 256 << 10              // bytes in one BDAT
	chunksUnanswered  = 4                      // BDAT commands sent ahead of their replies
	maxLine           = 998                    // bytes of content line (RFC 5321 §4.5.3.1.6), CRLF not counted
	maxReceived       = 100                    // Received fields before it is a loop (RFC 5321 §6.3)
	maxHeader         = 256 << 10              // bytes of header looked at
	maxSASLIterations = 1_000_000              // PBKDF2 rounds that a server may ask of SCRAM
	maxSASLSteps      = 8                      // challenges in one authentication
	maxText           = 600                    // bytes of a reason or reply that is stored and logged
	maxReturned       = 50_000                 // bytes of an original message returned whole in a notice
	maxMIMEParts      = 10_000                 // parts of a message that is re-encoded
	maxMIMEDepth      = 20                     // multiparts inside one another
	sessionTickets    = 512                    // TLS sessions remembered, over all receivers
	checkTime         = time.Minute            // for one probe
	checkParallel     = 8                      // probes at once in one check
	verifyWarning     = 7 * 24 * time.Hour     // check warns when something ends within this
)
