//go:build interop

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// reportVar names the file that the tables of a run that passed go to.
const reportVar = "DANEPOST_INTEROP_TABLE"

// section keeps a part of the report; parts are put together in the order of their names.
func section(t *testing.T, name, text string) {
	t.Helper()
	dir, err := workDir("report")
	if err == nil {
		err = writeFiles(dir, map[string]string{name + ".md": text})
	}
	if err != nil {
		t.Error(err)
	}
}

// row is a line of a table.
func row(cells ...any) string {
	var b strings.Builder
	for _, c := range cells {
		text := strings.NewReplacer("|", `\|`, "\n", " ").Replace(fmt.Sprint(c))
		b.WriteString("| " + text + " ")
	}
	return b.String() + "|\n"
}

func heading(cells ...any) string {
	return "\n" + row(cells...) + strings.Repeat("|---", len(cells)) + "|\n"
}

// writeReport shows what the tests of a whole run found, and keeps it where it is wanted.
func writeReport(work string) error {
	files, err := filepath.Glob(filepath.Join(work, "report", "*.md"))
	if err != nil || len(files) == 0 {
		return err
	}
	text := peersTable()
	for _, file := range files {
		part, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text += string(part)
	}
	differing, err := differencesTable()
	if err != nil {
		return err
	}
	text += differing
	fmt.Print(text)
	if file := os.Getenv(reportVar); file != "" {
		return os.WriteFile(file, []byte(reportHead+text), 0o644)
	}
	return nil
}

const reportHead = `# Beside other people's software

` + "`make interop`" + ` (root, Linux with network namespaces, Debian's packages) sets danepost against name servers, validators,
mail servers and mail programs that others wrote, in a network of its own; ` + "`make interop-table`" + ` does the same and
writes this file. All figures are of one run. Nothing is installed: packages that the host lacks are unpacked beside its
files. ` + "`INTEROP=\"-seed 0\"`" + ` makes other broken zones and set-ups of certificates than the last time. What is kept in
docs/peers.md (calls of sendmail, beside other programs of that name) is part of the run as well.
`

// differencesTable shows all that others may say otherwise without failing a
// run, whether or not this run came across it.
func differencesTable() (string, error) {
	var b strings.Builder
	b.WriteString("\n## What may differ, and why\n\nAll else fails the run. \"answered\" is any verdict but refused; \"*\" any at all.\n" +
		heading("who", "where", "danepost", "they", "rule", "why"))
	for _, file := range []string{"testdata/disagreements.tsv", "testdata/tree.tsv"} {
		all, err := readExceptions(file)
		if err != nil {
			return "", err
		}
		for _, e := range all {
			b.WriteString(row(e.oracle, e.tag, e.mine, e.theirs, e.section, e.reason))
		}
	}
	known, err := knownDifferences("testdata/finger.txt")
	if err != nil {
		return "", err
	}
	for _, d := range known {
		b.WriteString(row("Postfix", strings.Join(d.words, "; "), d.ours, d.theirs, "", d.reason))
	}
	return b.String(), nil
}

// peersTable names the packages at work and their versions.
func peersTable() string {
	var b strings.Builder
	b.WriteString("\n## Peers\n" + heading("part", "programs"))
	for _, p := range []struct{ part, root, names string }{
		{"name servers", servers, "bind9 nsd ldnsutils knot pdns-server"},
		{"validators", servers, "unbound bind9-dnsutils"},
		{"mail servers", "postfix", "postfix"}, {"", "exim", "exim4-daemon-light"}, {"", "opensmtpd", "opensmtpd"},
		{"mail programs", "submitters", "cron bsd-mailx s-nail mutt mailutils git-email php-cli python3 perl logwatch swaks"},
	} {
		var list []string
		for _, name := range strings.Fields(p.names) {
			list = append(list, name+" "+packageVersion(p.root, name))
		}
		b.WriteString(row(p.part, strings.Join(list, ", ")))
	}
	return b.String()
}

// fingerTable shows the verdicts and why some are others than Postfix's.
func fingerTable(all int, counts, explained map[string]int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## danepost check and posttls-finger\n\n%d random set-ups of MX, certificates and TLSA records, judged by both, and where posttls-finger says no more than\n"+
		"that it is not verified by a delivery of Postfix (level dane).\n%s", all, heading("verdict of danepost", "set-ups"))
	for _, v := range sortedKeys(counts) {
		b.WriteString(row(v, counts[v]))
	}
	if len(explained) == 0 {
		return b.String() + "\nAll verdicts of this run are the same.\n"
	}
	b.WriteString(heading("what differs", "set-ups"))
	for _, v := range sortedKeys(explained) {
		b.WriteString(row(v, explained[v]))
	}
	return b.String()
}
