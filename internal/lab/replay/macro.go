package replay

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// macros evaluates the ${...} expressions of testbound: variables ("$name"),
// "time", "timeout", "ctime expr", "range low value high" and arithmetic.
type macros struct {
	vars    map[string]string
	now     func() int64 // seconds on the scenario's clock
	timeout func() int64 // seconds until the subject's next timer
}

// expand replaces every ${...} in s, innermost first.
func (m *macros) expand(s string) (string, error) {
	for {
		start := strings.LastIndex(s, "${")
		if start < 0 {
			return s, nil
		}
		end := start + strings.IndexByte(s[start:], '}')
		if end < start {
			return "", fmt.Errorf("unbalanced braces in %q", s)
		}
		value, err := m.eval(strings.TrimSpace(s[start+2 : end]))
		if err != nil {
			return "", err
		}
		s = s[:start] + value + s[end+1:]
	}
}

func (m *macros) eval(expr string) (string, error) {
	word, rest, _ := strings.Cut(expr, " ")
	switch word {
	case "ctime":
		n, err := m.arithmetic(rest)
		return time.Unix(n, 0).UTC().Format("Mon Jan _2 15:04:05 2006"), err
	case "range":
		return m.inRange(strings.Fields(rest))
	}
	n, err := m.arithmetic(expr)
	return strconv.FormatInt(n, 10), err
}

// inRange is its middle argument, which must not lie outside the others.
func (m *macros) inRange(args []string) (string, error) {
	if len(args) != 3 {
		return "", fmt.Errorf("range needs three numbers, has %q", args)
	}
	var n [3]int64
	for i, a := range args {
		var err error
		if n[i], err = m.arithmetic(a); err != nil {
			return "", err
		}
	}
	if n[1] < n[0] || n[1] > n[2] {
		return "", fmt.Errorf("%d is not between %d and %d", n[1], n[0], n[2])
	}
	return args[1], nil
}

// arithmetic evaluates numbers and $variables with + - * /, the latter two
// first.
func (m *macros) arithmetic(s string) (int64, error) {
	var sum int64
	sign, product, op := int64(1), int64(0), byte('=')
	for _, tok := range tokens(s) {
		switch tok {
		case "+", "-":
			sum += sign * product
			sign, op = 1, '='
			if tok == "-" {
				sign = -1
			}
			continue
		case "*", "/":
			op = tok[0]
			continue
		}
		n, err := m.value(tok)
		if err != nil {
			return 0, err
		}
		switch {
		case op == '*':
			product *= n
		case op == '/' && n != 0:
			product /= n
		case op == '/':
			return 0, fmt.Errorf("division by zero in %q", s)
		default:
			product = n
		}
	}
	return sum + sign*product, nil
}

func tokens(s string) []string {
	for _, op := range []string{"+", "-", "*", "/"} {
		s = strings.ReplaceAll(s, op, " "+op+" ")
	}
	return strings.Fields(s)
}

func (m *macros) value(tok string) (int64, error) {
	switch tok {
	case "time":
		return m.now(), nil
	case "timeout":
		return m.timeout(), nil
	}
	if name, isVar := strings.CutPrefix(tok, "$"); isVar {
		v, set := m.vars[name]
		if !set {
			return 0, fmt.Errorf("variable %q is not set", name)
		}
		tok = v
	}
	n, err := strconv.ParseInt(tok, 10, 64)
	if err != nil {
		// Some expectations name times with a fraction.
		f, ferr := strconv.ParseFloat(tok, 64)
		if ferr != nil {
			return 0, fmt.Errorf("%q is not a number", tok)
		}
		n = int64(f)
	}
	return n, nil
}
