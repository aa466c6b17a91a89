package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"strings"
	"time"
)

// ProfileVariable names the environment variable that says where a process
// leaves its profiles: a path that .cpu.prof, .alloc.prof and .heap.prof are added to.
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
	stop := watchHeap(prefix + ".heap.prof")
	f()
	stop()
	pprof.StopCPUProfile()
	alloc, err := os.Create(prefix + ".alloc.prof")
	if err != nil {
		return err
	}
	return errors.Join(cpu.Close(), pprof.Lookup("allocs").WriteTo(alloc, 0), alloc.Close())
}

// watchHeap keeps a profile of what lived when most did, until stopped.
func watchHeap(file string) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var most uint64
		for {
			select {
			case <-quit:
				return
			case <-time.After(time.Second):
			}
			live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
			metrics.Read(live)
			if now := live[0].Value.Uint64(); now > most {
				most = now
				if out, err := os.Create(file); err == nil {
					pprof.Lookup("heap").WriteTo(out, 0)
					out.Close()
				}
			}
		}
	}()
	return func() { close(quit); <-done }
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
		args := []string{"tool", "pprof", "-top", "-nodecount=15"}
		switch {
		case strings.HasSuffix(f, ".alloc.prof"):
			args = append(args, "-sample_index=alloc_space")
		case strings.HasSuffix(f, ".heap.prof"):
			args = append(args, "-sample_index=inuse_space")
		default:
			args = append(args, "-cum")
		}
		out, err := exec.Command("go", append(args, f)...).Output()
		if err != nil {
			return fmt.Errorf("go tool pprof %s: %w", f, err)
		}
		fmt.Printf("\n%s\n%s", f, out)
	}
	return nil
}
