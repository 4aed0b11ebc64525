#!/bin/sh
# Builds the vSphere simulator against Debian's golang-github-vmware-govmomi-dev, without network.
# Usage: lab/vcsim/build.sh OUT_BINARY, or --vet to have Go look its sources over.
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
# Built beside its final name and moved there, so that nobody ever starts half a binary.
go build -o "$out.new.$$" ./*.go
mv "$out.new.$$" "$out"
