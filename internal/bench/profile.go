package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
)

// ProfileVariable names the environment variable that says where a process
// leaves its profiles: a path that .cpu.prof and .alloc.prof are added to.
const ProfileVariable = "DANEPOST_PROFILE"

// allocationRate is one sample in so many bytes allocated.
const allocationRate = 64 << 10

// Profile profiles f where the environment asks for it.
func Profile(f func()) error {
	prefix := os.Getenv(ProfileVariable)
	if prefix == "" {
		f()
		return nil
	}
	runtime.MemProfileRate = allocationRate
	cpu, err := os.Create(prefix + ".cpu.prof")
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return err
	}
	f()
	pprof.StopCPUProfile()
	alloc, err := os.Create(prefix + ".alloc.prof")
	if err != nil {
		return err
	}
	return errors.Join(cpu.Close(), pprof.Lookup("allocs").WriteTo(alloc, 0), alloc.Close())
}

// profiling makes the processes started for a work leave profiles named after it.
func (l *lab) profiling(name string) {
	if l.o.Profiles == "" {
		return
	}
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", r) {
			return r
		}
		return '-'
	}, name)
	os.Setenv(ProfileVariable, filepath.Join(l.o.Profiles, name))
}

// topOf prints the costliest functions of each profile.
func (l *lab) topOf() error {
	files, err := filepath.Glob(filepath.Join(l.o.Profiles, "*.prof"))
	if err != nil {
		return err
	}
	for _, f := range files {
		kind := "-cum"
		args := []string{"tool", "pprof", "-top", "-nodecount=15", kind, f}
		if strings.HasSuffix(f, ".alloc.prof") {
			args = []string{"tool", "pprof", "-sample_index=alloc_space", "-top", "-nodecount=15", f}
		}
		out, err := exec.Command("go", args...).Output()
		if err != nil {
			return fmt.Errorf("go tool pprof %s: %w", f, err)
		}
		fmt.Printf("\n%s\n%s", f, out)
	}
	return nil
}
