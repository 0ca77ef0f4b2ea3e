#!/usr/bin/env bash
# Builds the binary, its SBOM and the packages into a directory, from the source tree as it is. The
# build is reproducible: the same source gives the same bytes.
#
#	packaging/build.sh VERSION OUT     1.2.3, without a leading v
#
# GOARCH selects the architecture. SOURCE_DATE_EPOCH is the date of all files, by default the date
# of the last commit.
set -euo pipefail
version=${1:?usage: build.sh VERSION OUT}
mkdir -p "${2:?usage: build.sh VERSION OUT}"
out=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
source=$(dirname "$here")
cd "$source"

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
ARCH=${GOARCH:-$(go env GOARCH)}
VERSION=$version
STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT
export SOURCE_DATE_EPOCH ARCH VERSION
umask 022

build() { # ARCHITECTURE FILE
	CGO_ENABLED=0 GOARCH=$1 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.release=$version" -o "$2" ./cmd/mpgate
}
build "$ARCH" "$STAGE/mpgate"
native=$STAGE/mpgate
if [[ $ARCH != $(go env GOHOSTARCH) ]]; then # the manual and the completions come from a binary for this host
	native=$STAGE/.native
	build "$(go env GOHOSTARCH)" "$native"
fi

GOARCH= go run ./packaging/sbom "$STAGE/mpgate" "$version" >"$STAGE/sbom.cdx.json"
"$native" man | gzip -n9 >"$STAGE/mpgate.1.gz"
mkdir "$STAGE/completion" "$STAGE/units" "$STAGE/examples"
"$native" completion bash >"$STAGE/completion/mpgate"
"$native" completion zsh >"$STAGE/completion/_mpgate"
"$native" completion fish >"$STAGE/completion/mpgate.fish"
cp "$here"/{mpgate.toml,mpgate.sysusers,nfpm.yaml,*.sh} LICENSE "$STAGE/"
cp examples/*.toml "$STAGE/examples/"
"$native" units -c "$STAGE/mpgate.toml" --dir "$STAGE/units" >/dev/null
sed -i "s|$STAGE/mpgate.toml|/etc/mpgate/mpgate.toml|g; s|$native|/usr/bin/mpgate|g" "$STAGE"/units/*
find "$STAGE" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

nfpm=$STAGE/.nfpm
GOARCH= go -C packaging/tools build -o "$nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm
cd "$STAGE"
for packager in deb rpm; do
	"$nfpm" package --config nfpm.yaml --packager "$packager" --target "$out/" >&2
done
cp "$STAGE/mpgate" "$out/mpgate-linux-$ARCH"
cp "$STAGE/sbom.cdx.json" "$out/mpgate-linux-$ARCH.cdx.json"
cd "$out"
sha256sum -- *"$version"* "mpgate-linux-$ARCH"* >SHA256SUMS
