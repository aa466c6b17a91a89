package main_test

// The rules of the house that a machine can check: who imports whom, what the
// binary may link, that citations are real, and how large things may grow.

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "danepost"

// mayImport says for each room which rooms of ours its code (not its tests)
// may import directly. A room that is not listed may import none.
func mayImport() map[string][]string {
	return map[string][]string{
		"":                      {"internal/cli"},
		"internal/cli":          {"queue/submit", "queue", "deliver", "resolver", "resolver/dnssec", "trustanchor", "tlsa"},
		"queue/submit":          {"queue"},
		"deliver":               {"tlsa", "queue", "resolver", "resolver/dnssec"},
		"resolver":              {"resolver/dnssec"},
		"trustanchor":           {"resolver/dnssec"},
		"internal/lab/tour":     {"internal/lab"},
		"internal/lab/cmd/lab":  {"internal/lab", "internal/lab/tour"},
		"internal/lab/cmd/demo": {"internal/lab", "internal/lab/tour"},
	}
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// room is the import path inside the module; ok is false for others' packages.
func room(path string) (name string, ok bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

func TestImports(t *testing.T) {
	allowed := mayImport()
	for _, line := range goList(t, "-f", "{{.ImportPath}}{{range .Imports}} {{.}}{{end}}", "./...") {
		fields := strings.Fields(line)
		from, _ := room(fields[0])
		if strings.HasPrefix(from, "internal/bench") {
			continue // measures whatever it likes
		}
		for _, path := range fields[1:] {
			if to, ours := room(path); ours && !slices.Contains(allowed[from], to) {
				t.Errorf("%s imports %s: DESIGN does not let it", fields[0], path)
			}
		}
	}
}

func TestBinaryLinksNoTestCode(t *testing.T) {
	for _, path := range goList(t, "-deps", ".") {
		name, ours := room(path)
		switch {
		case ours && (strings.HasPrefix(name, "internal/lab") || strings.HasPrefix(name, "internal/bench")),
			path == "testing", strings.HasPrefix(path, "github.com/rogpeppe/go-internal"):
			t.Errorf("the binary links %s", path)
		}
	}
}

// TestPureRooms holds the pure cores to the standard library.
func TestPureRooms(t *testing.T) {
	for _, dir := range []string{"tlsa"} {
		for _, path := range goList(t, "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./"+dir) {
			if path != "" && path != module+"/"+dir {
				t.Errorf("%s depends on %s", dir, path)
			}
		}
	}
}

// sources calls f for each Go file of the repository.
func sources(t *testing.T, f func(path string, fset *token.FileSet, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		f(path, fset, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sections reads testdata/rfc.txt.
func sections(t *testing.T) map[string][]string {
	t.Helper()
	f, err := os.Open("testdata/rfc.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string][]string{}
	for in := bufio.NewScanner(f); in.Scan(); {
		if fields := strings.Fields(in.Text()); len(fields) > 0 && fields[0] != "#" {
			out[fields[0]] = fields[1:]
		}
	}
	return out
}

// TestCitations asserts that every `RFC n §x` in a comment names a section
// that the RFC has, and that none is written in another form.
func TestCitations(t *testing.T) {
	known := sections(t)
	seen := 0
	sources(t, func(path string, fset *token.FileSet, file *ast.File) {
		for _, group := range file.Comments {
			at := fset.Position(group.Pos())
			for _, c := range cited(group.Text()) {
				seen++
				if msg := c.check(known); msg != "" {
					t.Errorf("%s: %s", at, msg)
				}
			}
		}
	})
	if seen < 20 {
		t.Errorf("only %d citations found: is the test looking in the right place?", seen)
	}
}

// citation is one `RFC n` with the sections behind it.
type citation struct {
	number   string
	sections []string
	rest     string // what follows, to find other forms of writing
}

func cited(comment string) []citation {
	text := strings.Join(strings.Fields(comment), " ")
	// "RFC 4035 §5.2, §5.3 and §5.4", "RFC 5155 §8.5-8.7", "RFC 4034 Appendix B"
	form := regexp.MustCompile(`RFCs? ?(\d+)((?:(?:,| and| or|;)? §[0-9A-Z][0-9A-Za-z.]*(?:[-–]§?[0-9A-Z][0-9.]*)?)*)`)
	part := regexp.MustCompile(`[0-9A-Z][0-9A-Za-z.]*`)
	var out []citation
	for _, m := range form.FindAllStringSubmatchIndex(text, -1) {
		c := citation{number: text[m[2]:m[3]], rest: text[m[1]:]}
		for _, s := range part.FindAllString(text[m[4]:m[5]], -1) {
			if s = strings.Trim(s, "."); s != "" {
				c.sections = append(c.sections, s)
			}
		}
		if strings.HasPrefix(text[m[0]:], "RFC"+c.number) {
			c.rest = "RFC" + c.number
		}
		out = append(out, c)
	}
	return out
}

func (c citation) check(known map[string][]string) string {
	if strings.HasPrefix(c.rest, "RFC") || regexp.MustCompile(`^,? ([Ss]ection|[Ss]ec\.|\d+\.\d)`).MatchString(c.rest) {
		return fmt.Sprintf("write the citation of RFC %s as `RFC %s §x`", c.number, c.number)
	}
	have, ok := known[c.number]
	if !ok {
		return fmt.Sprintf("RFC %s is not in testdata/rfc.txt: look its sections up and add them", c.number)
	}
	for _, s := range c.sections {
		if !slices.Contains(have, s) {
			return fmt.Sprintf("RFC %s has no §%s", c.number, s)
		}
	}
	return ""
}

func TestCitationForms(t *testing.T) {
	known := map[string][]string{"4035": {"5", "5.2", "5.3"}, "4034": {"B"}}
	for text, good := range map[string]bool{
		"see RFC 4035 §5.2.":          true,
		"(RFC 4035 §5.2, §5.3)":       true,
		"RFC 4035\n§5.2 and §5.3 say": true,
		"RFC 4035 says":               true,
		"RFC 4034 §B":                 true,
		"RFC 4034 Appendix B":         true,
		"RFC 4035 §5.2-5.3":           true,
		"RFC 4035 §5.4":               false,
		"RFC 4035 §5.2, §6":           false,
		"RFC 4035 §5.2-5.9":           false,
		"RFC 9999":                    false,
		"RFC4035 §5.2":                false,
		"RFC 4035 section 5.2":        false,
		"RFC 4035 5.2":                false,
	} {
		all := cited(text)
		if len(all) != 1 {
			t.Errorf("%q: %d citations", text, len(all))
			continue
		}
		if msg := all[0].check(known); (msg == "") != good {
			t.Errorf("%q: %q", text, msg)
		}
	}
}

// TestShape keeps the code in pieces that can be read whole, and free of what
// runs or changes behind the reader's back.
func TestShape(t *testing.T) {
	const maxFile, maxFunc, maxParams = 500, 100, 5
	sources(t, func(path string, fset *token.FileSet, file *ast.File) {
		if strings.HasSuffix(path, "_test.go") || ast.IsGenerated(file) {
			return
		}
		if n := fset.Position(file.FileEnd).Line; n > maxFile {
			t.Errorf("%s has %d lines; %d are the limit", path, n, maxFile)
		}
		pure := strings.HasPrefix(path, "tlsa/") || strings.HasPrefix(path, "resolver/dnssec/")
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			at := fset.Position(f.Pos())
			if n := fset.Position(f.End()).Line - at.Line + 1; n > maxFunc {
				t.Errorf("%s: func %s has %d lines; %d are the limit", at, f.Name.Name, n, maxFunc)
			}
			if n := f.Type.Params.NumFields(); n > maxParams {
				t.Errorf("%s: func %s has %d parameters; %d are the limit", at, f.Name.Name, n, maxParams)
			}
			if f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: func init", at)
			}
			if pure && callsClock(f) {
				t.Errorf("%s: func %s asks the clock in a pure room", at, f.Name.Name)
			}
		}
	})
}

func callsClock(f *ast.FuncDecl) bool {
	found := false
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Now" {
			x, ok := s.X.(*ast.Ident)
			found = found || ok && x.Name == "time"
		}
		return true
	})
	return found
}
