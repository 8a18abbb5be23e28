#!/bin/sh
# Makes an authority: ca.key and ca.pem in the directory $1.
set -eu
umask 077
mkdir -p "$1"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 3650 -subj '/CN=Sealbus' \
    -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$1/ca.key" -out "$1/ca.pem.new"
mv "$1/ca.pem.new" "$1/ca.pem"
