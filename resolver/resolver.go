// Package resolver finds DNS data by itself, from the root down, and has
// every verdict on it from package dnssec.
package resolver
