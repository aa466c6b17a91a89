package queue

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kernelBoot returns a function that asks the kernel.
func kernelBoot() func() Boot {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without it the wall clock must do
	id := strings.TrimSpace(string(b))
	return func() Boot {
		var up, awake unix.Timespec
		if unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
			return Boot{}
		}
		return Boot{ID: id, Up: time.Duration(up.Nano()), Asleep: time.Duration(up.Nano() - awake.Nano())}
	}
}
