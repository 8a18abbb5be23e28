#!/bin/sh
# Signs a request on stdin with the authority in the directory $1, for $2 days and the names and addresses that follow. What the
# request itself asks for does not count: it comes from another machine.
set -eu
ca=$1 days=$2
shift 2
extensions=$(mktemp)
trap 'rm -f "$extensions"' EXIT
{
    echo 'basicConstraints = critical, CA:FALSE'
    # The servers of a cluster are each other's clients.
    echo 'extendedKeyUsage = serverAuth, clientAuth'
    echo 'subjectAltName = @names'
    echo '[names]'
    number=0
    for name in "$@"; do
        number=$((number + 1))
        case $name in
            *:*) echo "IP.$number = $name" ;;
            *[!0-9.]*) echo "DNS.$number = $name" ;;
            *) echo "IP.$number = $name" ;;
        esac
    done
} >"$extensions"
openssl x509 -req -extfile "$extensions" -days "$days" -CA "$ca/ca.pem" -CAkey "$ca/ca.key"
