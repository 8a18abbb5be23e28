#!/bin/sh
# Makes the running PostgreSQL take over its configuration and its certificate, and fails if it does not.
#   $1  the unit's name
set -eu
cd /
sql() { runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --quiet --command "$1"; }
shown() { openssl s_client -starttls postgres -connect 127.0.0.1:5432 </dev/null 2>/dev/null | openssl x509 -noout -fingerprint; }
fail() {
    echo "PostgreSQL $1. The end of its log:"
    tail -n 15 "$(ls -t /var/log/postgresql/*.log | head -n 1)"
    exit 1
}

took=
systemctl is-active --quiet "$1" || { took='was started'; systemctl start "$1" || fail 'does not start'; }
before=$(sql 'SELECT pg_conf_load_time()')
systemctl reload "$1"
tries=50
while [ "$(sql 'SELECT pg_conf_load_time()')" = "$before" ]; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || fail 'does not reload its configuration'
    sleep 0.2
done
# Some settings are read only at the start. Managers wait and connect again.
if [ "$(sql 'SELECT count(*) FROM pg_settings WHERE pending_restart')" != 0 ]; then
    took='took over by a restart'
    systemctl restart "$1" || fail 'does not start with its configuration'
fi
errors=$(sql "SELECT name || ': ' || error FROM pg_file_settings WHERE error IS NOT NULL")
[ -z "$errors" ] || fail "refuses $errors"
[ "$(shown)" = "$(openssl x509 -in /etc/postgresql/sealbus/tls.pem -noout -fingerprint)" ] || fail 'shows another certificate than its file'
echo "${took:-nothing new}"
