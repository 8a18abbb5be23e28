#!/bin/sh
# Has the running NATS server take over /etc/nats/nats.conf, whose digest is the argument, and says whether it did: a server that
# refuses a configuration goes on with the old one, and only its log tells. What was taken over is remembered until the next boot.
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
        # A setting that only a start reads. Whoever is connected waits and comes back.
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
