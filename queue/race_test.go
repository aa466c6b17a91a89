//go:build race

package queue

// raceEnabled is 1 under the race detector, which slows everything.
const raceEnabled = 1
