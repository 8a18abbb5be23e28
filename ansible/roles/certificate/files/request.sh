#!/bin/sh
# Prints a request for a certificate of this server, or nothing if the one that it has is good.
#   $1   how many days it must still be valid
#   $2…  the names and addresses that it must be valid for
set -eu
days=$1
shift
cd /etc/nats
if [ ! -e tls.key ]; then
    umask 077
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out tls.key.new
    chown root:nats tls.key.new
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
