#!/bin/sh
# Builds the vSphere simulator against Debian's golang-github-vmware-govmomi-dev, without network.
# Usage: lab/vcsim/build.sh OUT_BINARY
set -eu

test $# -eq 1 || { echo "usage: $0 OUT_BINARY" >&2; exit 2; }
out=$(realpath -m "$1")
cd "$(dirname "$0")"
mkdir -p "$(dirname "$out")"

export GO111MODULE=off GOFLAGS= GOPATH=/usr/share/gocode GOPROXY=off CGO_ENABLED=0
export GOCACHE="${GOCACHE:-$(dirname "$out")/go-build}"
# Built beside its final name and moved there, so that nobody ever starts half a binary.
go build -o "$out.new.$$" ./*.go
mv "$out.new.$$" "$out"
