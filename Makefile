# CI runs .ci/run; these are its steps, for interactive use.

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS = -s -w -X main.release=$(VERSION)
SOAK ?= 30m
CONCURRENT = ./admin/... ./certs/... ./gateway/... ./listener/... ./mptcp ./proxy/... ./telemetry/...

.PHONY: all build demo test race lint fuzz ci soak bench-quick image man completions clean

all: build

build: ## the static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o mpgate ./cmd/mpgate

demo:
	$(GO) run ./cmd/mpgate demo

test:
	$(GO) test ./...

race:
	CGO_ENABLED=1 $(GO) test -race -p 1 -count=1 $(CONCURRENT)

lint:
	@files=$$(gofmt -l $$(git ls-files '*.go')); if [ "$$files" ]; then echo "not formatted: $$files"; exit 1; fi
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	@tools=$$(mktemp -d); trap 'rm -rf '$$tools EXIT; \
	$(GO) -C tools build -o $$tools/ honnef.co/go/tools/cmd/staticcheck golang.org/x/vuln/cmd/govulncheck && \
	$$tools/staticcheck ./... && $$tools/govulncheck ./...

fuzz: ## make fuzz PKG=./proxy/http1 F=FuzzRequest
	$(GO) test -run '^$$' -fuzz '^$(F)$$' $(PKG)

ci:
	bash .ci/run

soak: ## half an hour with the race detector; make soak SOAK=5m is shorter
	CGO_ENABLED=1 $(GO) test ./internal/soak -count=1 -v -timeout 0 -soak $(SOAK)

bench-quick: ## less than three minutes; the second command needs root
	$(GO) run ./bench cpu --quick
	if [ "$$(id -u)" = 0 ]; then $(GO) run ./bench paths --quick; fi

image:
	buildah build --build-arg VERSION=$(VERSION) -t mpgate:$(VERSION) .

man: build ## dist/mpgate.1
	mkdir -p dist && ./mpgate man > dist/mpgate.1

completions: build ## dist/completions
	mkdir -p dist/completions
	./mpgate completion bash > dist/completions/mpgate
	./mpgate completion zsh > dist/completions/_mpgate
	./mpgate completion fish > dist/completions/mpgate.fish

clean:
	rm -rf mpgate dist
