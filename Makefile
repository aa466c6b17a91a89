# make alone lists the targets.
GO         ?= go
BIN        := bin/danepost
LDFLAGS    := -s -w
# The version is the repository's, whatever GOFLAGS says; git may be absent, or
# refuse a repository that is somebody else's.
VCS        := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo true || echo false)
FUZZTIME   ?= 10s
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the static binary into bin/
	CGO_ENABLED=0 $(GO) build -buildvcs=$(VCS) -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) .

.PHONY: demo
demo: build ## the main job on the built-in test internet, attacks included
	$(GO) run ./internal/lab/cmd/demo -binary $(BIN)

.PHONY: lab
lab: build ## leave the test internet running, with a configuration for the binary
	$(GO) run ./internal/lab/cmd/lab

.PHONY: test
test: ## vet and all tests, with the race detector
	$(GO) vet ./...
	$(GO) test -race -count=1 ./...

.PHONY: soak
soak: build ## long crash runs: every power cut, 200 kills under load
	DANEPOST_SOAK=1 DANEPOST_BINARY=$(abspath $(BIN)) $(GO) test -count=1 -timeout 2h -v ./internal/lab/crash

.PHONY: check
check: fmt test ## format, vet, staticcheck, tests; govulncheck too where GOVULNDB names its data
	$(GO) run $(STATICCHECK) ./...
	@if [ -n "$$GOVULNDB" ]; then $(GO) run $(GOVULNCHECK) -db "$$GOVULNDB" ./...; else echo "govulncheck skipped: GOVULNDB is not set"; fi

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s)
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "== $$pkg $$f"; \
			$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

.PHONY: fmt
fmt:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "not gofmt'ed:"; echo "$$out"; exit 1; fi

.PHONY: bench
bench: build ## danepost beside Postfix and Unbound, a table of ratios (root; BENCH="--domains 2000" for full size)
	$(GO) build -o bin/bench ./internal/bench/cmd/bench
	bin/bench $(BENCH)

.PHONY: bench-table
bench-table: ## make bench, its table into docs/bench.md (root)
	$(MAKE) bench BENCH="--docs docs/bench.md $(BENCH)"

.PHONY: profile
profile: ## profiles of the CPU time and allocations of each work of the bench, into bin/profiles (root)
	$(GO) build -o bin/bench ./internal/bench/cmd/bench
	CGO_ENABLED=0 $(GO) build -o bin/danepost-profiled ./internal/bench/cmd/profiled
	bin/bench --binary bin/danepost-profiled --profiles bin/profiles $(BENCH)

.PHONY: interop
interop: ## beside other people's servers and validators, in namespaces (root; INTEROP="-seed 0" for zones of another seed)
	$(GO) vet -tags interop ./internal/lab/interop
	$(GO) test -tags interop -count 1 ./internal/lab/interop -v -timeout 12m -args $(INTEROP)

.PHONY: interop-table
interop-table: ## make interop, its tables into docs/interop.md (root)
	DANEPOST_INTEROP_TABLE=../../../docs/interop.md $(MAKE) interop

.PHONY: peers
peers: ## what danepost, Postfix, dma, msmtp and nullmailer make of the same calls of sendmail, into docs/peers.md (root)
	DANEPOST_PEERS_TABLE=../../../docs/peers.md $(GO) test -tags interop -count 1 ./internal/lab/interop -v -run TestMail/Peers

.PHONY: dist
dist: ## static binaries of all targets, Debian and OpenWrt packages, into dist/
	packaging/dist.sh

.PHONY: install
install: build ## the binary, its sendmail names, man page and unit; as root the maildrop too (DESTDIR, PREFIX)
	packaging/install.sh $(BIN)
