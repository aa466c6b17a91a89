//go:build !linux

package queue

import "math"

// filesystem knows the names of Linux only.
func filesystem(string) (filesystemKind, error) { return filesystemKind{}, nil }

// unmap leaves the pages of a mapped file to the system.
func unmap(uintptr, int64) {}

// freeBytes is not asked outside Linux: a full disk is noticed when a write
// to it fails.
func freeBytes(string) (int64, error) { return math.MaxInt64, nil }
