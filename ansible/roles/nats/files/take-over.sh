#!/bin/sh
# Makes the running NATS server reload /etc/nats/nats.conf, and reports whether it did. The argument is the file's digest.
# A server that refuses a configuration keeps the old one and says so only in its log. The digest of the last successful
# reload is remembered until the next boot.
set -eu
digest=$1
mark=/run/sealbus-nats-taken-over
pid() { systemctl show --value --property MainPID nats.service; }

if [ "$(cat "$mark" 2>/dev/null)" = "$digest $(pid)" ]; then
    echo "nothing new"
    exit 0
fi
cursor=$(journalctl --unit nats.service --lines 0 --show-cursor --quiet | sed -n 's/^-- cursor: //p')
since() { journalctl --unit nats.service ${cursor:+--after-cursor "$cursor"} --output cat --no-pager; }
systemctl reload nats.service
tries=0
while [ "$tries" -lt 20 ]; do
    if since | grep -q 'Reloaded server configuration'; then
        echo "$digest $(pid)" > "$mark"
        echo "took over"
        exit 0
    fi
    if since | grep -q 'reload not supported'; then
        # This setting is read only at the start. Clients wait and reconnect.
        systemctl restart nats.service
        sleep 3
        systemctl is-active --quiet nats.service
        echo "$digest $(pid)" > "$mark"
        echo "took over by a restart"
        exit 0
    fi
    if since | grep -q 'Failed to reload'; then
        break
    fi
    tries=$((tries + 1))
    sleep 0.5
done
echo "NATS has not taken over its configuration, and runs with the old one:"
since
exit 1
