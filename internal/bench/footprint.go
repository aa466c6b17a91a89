package bench

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// idleMemory is the proportional set size after a fresh start, in MB.
func (l *lab) idleMemory(postfix bool) (s Sample, err error) {
	var ds []*daemon
	defer func() { err = errors.Join(err, stopAll(ds...)) }()
	begin := func(d *daemon, err error) error {
		ds = append(ds, d)
		return err
	}
	if postfix {
		err = errors.Join(l.configurePostfix(), begin(l.startUnbound(1)), begin(l.startPostfix()))
	} else {
		err = errors.Join(l.configureDanepost(""), begin(l.startDanepost()))
	}
	if err != nil {
		return nil, err
	}
	time.Sleep(2 * time.Second)
	return Sample{"idle": memoryOf(ds...)}, nil
}

// diskOfPeers is what the packages and all that they need beyond a minimal
// Debian take, in MB, as the package database says.
func (l *lab) diskOfPeers() (Sample, error) {
	out, err := run("dpkg-query", "-W", "-f",
		"${Package}\t${Installed-Size}\t${Essential}\t${Priority}\t${Pre-Depends},${Depends}\n")
	if err != nil {
		return nil, err
	}
	installed := map[string][]string{}
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) >= 4 {
			installed[f[0]] = f[1:]
		}
	}
	size := map[string]float64{}
	for todo := []string{"unbound", "postfix"}; len(todo) > 0; todo = todo[1:] {
		name := todo[0]
		f := installed[name]
		if _, seen := size[name]; seen || f == nil || f[1] == "yes" || f[2] == "required" || name == "libc6" {
			continue
		}
		kb, err := strconv.ParseFloat(f[0], 64)
		if err != nil {
			return nil, fmt.Errorf("installed size of %s: %w", name, err)
		}
		size[name] = kb * 1024 / 1e6
		for alternatives := range strings.SplitSeq(f[3], ",") {
			todo = append(todo, dependency(alternatives, installed))
		}
	}
	s := Sample{"packages": size["unbound"] + size["postfix"]}
	for _, mb := range size {
		s["disk"] += mb
	}
	return s, nil
}

// dependency is the first installed package among alternatives like
// "a (>= 1) | b:any".
func dependency(alternatives string, installed map[string][]string) string {
	for a := range strings.SplitSeq(alternatives, "|") {
		f := strings.FieldsFunc(a, func(r rune) bool { return strings.ContainsRune(" (:", r) })
		if len(f) > 0 && installed[f[0]] != nil {
			return f[0]
		}
	}
	return ""
}

// diskOfDanepost is the size of the binary in MB.
func (l *lab) diskOfDanepost() (Sample, error) {
	st, err := os.Stat(l.o.Binary)
	if err != nil {
		return nil, err
	}
	return Sample{"disk": float64(st.Size()) / 1e6, "packages": float64(st.Size()) / 1e6}, nil
}
