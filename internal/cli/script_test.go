package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts of testdata/script run this test binary under the names a user
// knows: behaviour as seen from a shell, readable by anyone.
func TestMain(m *testing.M) {
	run := func() {
		os.Exit(Main(os.Args, Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	testscript.Main(m, map[string]func(){"danepost": run, "sendmail": run, "mailq": run, "newaliases": run})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":         exits,
			"wait-for-file": waitForFile,
			"http-get":      httpGet,
			"dns-ask":       dnsAsk,
		},
	})
}

// exits runs a command and demands its exit status: exits 64 danepost frob.
// Its output is there for stdout and stderr.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits status command [arg...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status %d, not %d", got, want)
	}
}

// waitForFile waits until a file is there.
func waitForFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: wait-for-file name")
	}
	for range 3000 {
		if _, err := os.Lstat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("%s did not appear within 30 s", args[0])
}

// httpGet prints what a plain HTTP/1.0 request gets.
func httpGet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: http-get address path")
	}
	conn, err := net.Dial("tcp", args[0])
	ts.Check(err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: x\r\n\r\n", args[1])
	_, err = io.Copy(ts.Stdout(), conn)
	ts.Check(err)
}

// dnsAsk prints what a name server says of a name's address.
func dnsAsk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: dns-ask address name")
	}
	m, err := dns.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(args[1]), dns.TypeA), args[0])
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), dns.RcodeToString[m.Rcode], m.Answer)
}
