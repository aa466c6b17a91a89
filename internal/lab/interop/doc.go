// Package interop sets danepost against other people's software: name servers
// that sign in ways of their own, validators that judge the same data, and
// faults in the path between. All of it is tests with the build tag interop;
// they need root and a kernel that gives out namespaces:
//
//	go test -tags interop ./internal/lab/interop -v -timeout 12m
//
// The test binary runs twice (frame_test.go). The outer run has the host's
// network: it unpacks the Debian packages that are missing, beside the host's
// files, and builds danepost. Then it starts itself again inside a network,
// mount and process namespace of its own, where the tests run: its loopback owns
// 10.53/16 and fd53::/64, every daemon is its child, and when it ends, for
// whatever reason, the kernel ends what it started. Nothing of the host is
// changed, and nothing in the namespace can reach the world.
package interop
