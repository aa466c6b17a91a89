package deliver

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

// receiver is an SMTP server for tests. The zero value with a certificate
// accepts everything over STARTTLS with PIPELINING.
type receiver struct {
	cert         tls.Certificate
	ext          []string // beyond STARTTLS and PIPELINING
	plain        bool     // offers no STARTTLS
	noPipelining bool
	implicit     bool
	tlsConfig    func(*tls.Config)
	// say replaces the reply to a verb ("greeting", "EHLO", "HELO", "STARTTLS",
	// "AUTH", "MAIL", "RCPT", "DATA", ".", "BDAT", "RSET"); with a suffix "/tls" only after TLS.
	// "" leaves it as it is; "drop" closes the connection.
	say map[string]string
	// answer overrides say where it is set and returns something.
	answer        func(verb, line string, tls bool) string
	afterStartTLS []byte // sent right behind the 220

	mu       sync.Mutex
	sessions int
	got      []mail
	lines    []string // every command
	resumed  int
}

// mail is one message that arrived.
type mail struct {
	from    string
	to      []string
	content string
	tls     bool
}

func (r *receiver) messages() []mail {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]mail(nil), r.got...)
}

func (r *receiver) commands() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}

// exchange is one connection being served.
type exchange struct {
	r    *receiver
	conn net.Conn
	br   *bufio.Reader
	tls  bool
	m    mail
	bdat bytes.Buffer
}

func (r *receiver) serve(conn net.Conn) {
	r.mu.Lock()
	r.sessions++
	r.mu.Unlock()
	x := &exchange{r: r, conn: conn, br: bufio.NewReader(conn)}
	if r.implicit && !x.startTLS() {
		return
	}
	if !x.reply("greeting", "", "220 mx.test ESMTP") {
		return
	}
	for {
		line, err := x.br.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		r.mu.Lock()
		r.lines = append(r.lines, line)
		r.mu.Unlock()
		if !x.command(line) {
			return
		}
	}
}

// reply sends what the test wants said for verb, else the default. False
// ends the connection.
func (x *exchange) reply(verb, line, normal string) bool {
	text := ""
	if x.r.answer != nil {
		text = x.r.answer(verb, line, x.tls)
	}
	if text == "" && x.tls {
		text = x.r.say[verb+"/tls"]
	}
	if text == "" {
		text = x.r.say[verb]
	}
	if text == "" {
		text = normal
	}
	if text == "drop" {
		return false
	}
	_, err := io.WriteString(x.conn, text+"\r\n")
	return err == nil && !strings.HasPrefix(text, "421")
}

func (x *exchange) command(line string) bool {
	verb := strings.ToUpper(verbOf(line))
	switch verb {
	case "EHLO":
		return x.reply(verb, line, x.ehlo())
	case "STARTTLS":
		if !x.reply(verb, line, "220 2.0.0 go ahead"+extra(x.r.afterStartTLS)) {
			return false
		}
		if s := x.r.say["STARTTLS"]; s != "" && !strings.HasPrefix(s, "220") {
			return true
		}
		return x.startTLS()
	case "MAIL":
		x.m = mail{from: line[len("MAIL FROM:"):], tls: x.tls}
		return x.reply(verb, line, "250 2.1.0 ok")
	case "RCPT":
		x.m.to = append(x.m.to, line[len("RCPT TO:"):])
		return x.reply(verb, line, "250 2.1.5 ok")
	case "DATA":
		return x.data(line)
	case "BDAT":
		return x.chunk(line)
	case "QUIT":
		x.reply(verb, line, "221 2.0.0 bye")
		return false
	}
	return x.reply(verb, line, "250 2.0.0 ok")
}

func extra(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return "\r\n" + string(b)
}

func (x *exchange) ehlo() string {
	var lines []string
	if !x.r.plain && !x.tls {
		lines = append(lines, "STARTTLS")
	}
	if !x.r.noPipelining {
		lines = append(lines, "PIPELINING")
	}
	lines = append(lines, x.r.ext...)
	s := "250-mx.test\r\n"
	for _, l := range lines {
		s += "250-" + l + "\r\n"
	}
	return s + "250 ENHANCEDSTATUSCODES"
}

func (x *exchange) startTLS() bool {
	cfg := &tls.Config{Certificates: []tls.Certificate{x.r.cert}}
	cfg.SetSessionTicketKeys([][32]byte{{1}})
	if x.r.tlsConfig != nil {
		x.r.tlsConfig(cfg)
	}
	conn := tls.Server(x.conn, cfg)
	if conn.Handshake() != nil {
		return false
	}
	if conn.ConnectionState().DidResume {
		x.r.mu.Lock()
		x.r.resumed++
		x.r.mu.Unlock()
	}
	x.conn, x.br, x.tls = conn, bufio.NewReader(conn), true
	return true
}

func (x *exchange) data(line string) bool {
	said := x.r.say["DATA"]
	if x.r.answer != nil {
		if s := x.r.answer("DATA?", line, x.tls); s != "" {
			said = s
		}
	}
	if said != "" && !strings.HasPrefix(said, "354") {
		return x.reply("DATA", line, said)
	}
	if !x.reply("DATA", line, "354 go on") {
		return false
	}
	var b strings.Builder
	for {
		l, err := x.br.ReadString('\n')
		if err != nil {
			return false
		}
		if l == ".\r\n" {
			break
		}
		b.WriteString(strings.TrimPrefix(l, "."))
	}
	return x.end(".", b.String())
}

func (x *exchange) chunk(line string) bool {
	w := strings.Fields(line)
	n, _ := strconv.Atoi(w[1])
	if _, err := io.CopyN(&x.bdat, x.br, int64(n)); err != nil {
		return false
	}
	if len(w) < 3 {
		return x.reply("BDAT", line, fmt.Sprintf("250 2.0.0 %d octets", n))
	}
	content := x.bdat.String()
	x.bdat.Reset()
	return x.end("BDAT LAST", content)
}

func (x *exchange) end(verb, content string) bool {
	x.m.content = content
	said := x.r.say[verb]
	if x.r.answer != nil && said == "" {
		said = x.r.answer(verb+"?", "", x.tls)
	}
	if said == "" || strings.HasPrefix(said, "2") {
		x.r.mu.Lock()
		x.r.got = append(x.r.got, x.m)
		x.r.mu.Unlock()
	}
	return x.reply(verb, "", "250 2.0.0 queued")
}
