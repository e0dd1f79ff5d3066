# make test    everything that has to pass: vet, unit tests with the race
#              detector (those that can be shortened are, and run whole
#              without it), then the integration tests; a part that fails
#              does not keep the next ones from running
# make build   bin/p2pcore, without C, as in the image: the database's memory is then on Go's
#              heap, where --memory counts it
# make lint    vet, formatting and staticcheck (downloads staticcheck)
# make bench   all benchmarks; BENCH=regexp picks some, BENCHTIME=1s their time
# make bench-js  appends, replication and a store of many feeds, JavaScript's and ours
#              in turn, and the ratios, of replication over several pairs (downloads the
#              JavaScript implementation; needs node); PAIRS_TIME=240 bounds the seconds
#              for the pairs of one size
# make fuzz    each fuzz target for FUZZTIME
# make clean   what the others have made

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.DEFAULT_GOAL := build

GO ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
BENCH ?= .
BENCHTIME ?= 1s
FUZZTIME ?= 10s

# Upper bounds per package; a run that comes near one is broken.
UNIT_TIMEOUT ?= 12m
INTEGRATION_TIMEOUT ?= 10m

MODULE := github.com/p2pcore/p2pcore
UNITS := $(GO) list ./... | grep -v '^$(MODULE)/integration'
# Packages whose tests do less with -short. The race detector, which makes them up to ten times slower, has the short ones.
LONG := grep -rl --include='*_test.go' 'testing.Short()' . | grep -v '^./integration' | xargs -n 1 dirname | sort -u

# timed prints how long a part took, also when it fails.
define timed
timed() {
	local title=$$1 start=$$SECONDS status=0
	shift
	"$$@" || status=$$?
	echo "== $$title: $$((SECONDS - start)) s$$([ $$status -eq 0 ] || echo ', failed')"
	return $$status
}
endef

.PHONY: build
build:
	mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/p2pcore

.PHONY: test
test:
	$(timed)
	failed=0
	timed download $(GO) mod download
	timed build $(GO) build ./... || failed=1
	timed vet $(GO) vet ./... || failed=1
	units=$$($(UNITS))
	timed 'unit tests' $(GO) test -race -short -timeout $(UNIT_TIMEOUT) $$units || failed=1
	timed 'long unit tests' $(GO) test -timeout $(UNIT_TIMEOUT) $$($(LONG)) || failed=1
	if [ "$$(id -u)" != 0 ] || ! command -v ip >/dev/null; then
		echo '== NOT RUN: the mDNS tests; they need root and the ip command (iproute2)' >&2
	fi
	outside=$$($(GO) list ./integration/... | grep -v -e '/interop$$' -e '/mesh$$')
	timed 'integration tests' $(GO) test -count=1 -timeout $(INTEGRATION_TIMEOUT) $$outside || failed=1
	if command -v node >/dev/null && command -v npm >/dev/null; then
		timed 'tests with JavaScript peers' $(GO) test -count=1 -timeout $(INTEGRATION_TIMEOUT) ./integration/interop || failed=1
	else
		echo '== NOT RUN: the tests with JavaScript peers; they need Node 20 and npm' >&2
	fi
	if [ "$$(id -u)" = 0 ] && command -v ip >/dev/null; then
		timed 'mesh in namespaces' $(GO) test -count=1 -timeout $(INTEGRATION_TIMEOUT) -run TestNamespaces ./integration/mesh || failed=1
	else
		echo '== NOT RUN: the mesh in namespaces; it needs root and the ip command (iproute2)' >&2
	fi
	timed 'compose files' $(GO) test -count=1 -timeout $(INTEGRATION_TIMEOUT) -run TestComposeFiles ./integration/mesh || failed=1
	missing=$$(for c in docker docker-compose ip git; do command -v $$c >/dev/null || echo $$c; done)
	if [ "$$(id -u)" = 0 ] && [ -z "$$missing" ] && docker version >/dev/null 2>&1; then
		timed 'quick start on Docker' $(GO) test -count=1 -timeout $(INTEGRATION_TIMEOUT) -run TestQuickStart ./integration/mesh || failed=1
		timed 'mesh on Docker' $(GO) test -count=1 -timeout $(INTEGRATION_TIMEOUT) -run TestDocker ./integration/mesh || failed=1
	else
		echo '== NOT RUN: quick start and mesh on Docker; they need root, an engine that answers, docker-compose, ip and git' >&2
	fi
	echo "== all: $$SECONDS s"
	exit $$failed

.PHONY: lint
lint:
	$(timed)
	timed vet $(GO) vet ./...
	gofmted() {
		local files
		files=$$(git ls-files -z '*.go' | xargs -0 gofmt -l)
		[ -z "$$files" ] || { echo "not formatted: $$files"; return 1; }
	}
	timed gofmt gofmted
	timed staticcheck $(GO) run $(STATICCHECK) ./...

.PHONY: bench
bench:
	units=$$($(UNITS))
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem $$units

.PHONY: bench-js
bench-js:
	cd integration/js
	npm ci --no-audit --no-fund --silent
	GO='$(GO)' node bench.js --go

# go test fuzzes one target of one package at a time.
.PHONY: fuzz
fuzz:
	$(timed)
	units=$$($(UNITS))
	for pkg in $$units; do
		targets=$$($(GO) test -list '^Fuzz' "$$pkg")
		for target in $$(grep '^Fuzz' <<<"$$targets" || true); do
			timed "$$pkg $$target" $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg"
		done
	done

.PHONY: clean
clean:
	rm -rf bin dist
	find . -name '*.test' -type f -not -path './.git/*' -delete
	$(GO) clean -testcache
