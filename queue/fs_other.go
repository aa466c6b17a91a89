//go:build !linux

package queue

import "math"

// filesystem knows the names of Linux only.
func filesystem(string) (filesystemKind, error) { return filesystemKind{}, nil }

// freeBytes is not asked outside Linux: a full disk is noticed when a write
// to it fails.
func freeBytes(string) (int64, error) { return math.MaxInt64, nil }
