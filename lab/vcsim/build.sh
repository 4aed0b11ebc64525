#!/bin/sh
# Builds the vSphere simulator against Debian's golang-github-vmware-govmomi-dev, without a network.
# Usage: lab/vcsim/build.sh OUT_BINARY, or --vet to run `go vet` on the sources.
set -eu

test $# -eq 1 || { echo "usage: $0 OUT_BINARY | --vet" >&2; exit 2; }
command -v go >/dev/null || { echo "Go is not installed; \`make setup\` does that" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
cache=$here/../../.cache/vcsim
test "$1" = --vet || { out=$(realpath -m "$1"); cache=$(dirname "$out"); }
cd "$here"
mkdir -p "$cache"

export GO111MODULE=off GOFLAGS= GOPATH=/usr/share/gocode GOPROXY=off CGO_ENABLED=0
export GOCACHE="${GOCACHE:-$cache/go-build}"
test "$1" != --vet || exec go vet ./*.go
# Built under a temporary name and renamed, so that nobody starts a partial binary.
go build -o "$out.new.$$" ./*.go
mv "$out.new.$$" "$out"
