#!/bin/sh
# Prints a request for a certificate of this server, or nothing if the one that it has is good.
#   $1   the directory of tls.key, tls.pem and ca.pem
#   $2   the group that may read the key
#   $3   how many days the certificate must still be valid
#   $4…  the names and addresses that it must be valid for
set -eu
cd "$1"
group=$2 days=$3
shift 3
if [ ! -e tls.key ]; then
    umask 077
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out tls.key.new
    chown "root:$group" tls.key.new
    chmod 0640 tls.key.new
    mv tls.key.new tls.key
fi
good=yes
openssl verify -CAfile ca.pem tls.pem >/dev/null 2>&1 || good=
openssl x509 -in tls.pem -noout -checkend $((days * 86400)) >/dev/null 2>&1 || good=
for name in "$@"; do
    case $name in
        *:*) check=-checkip ;;
        *[!0-9.]*) check=-checkhost ;;
        *) check=-checkip ;;
    esac
    openssl x509 -in tls.pem -noout $check "$name" 2>/dev/null | grep 'does match' >/dev/null || good=
done
# The key may have been replaced.
[ "$(openssl pkey -in tls.key -pubout)" = "$(openssl x509 -in tls.pem -noout -pubkey 2>/dev/null)" ] || good=
[ -z "$good" ] || exit 0
openssl req -new -key tls.key -subj "/CN=$1"
