//go:build !race

package queue

const raceEnabled = 0
