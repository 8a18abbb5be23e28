#!/bin/sh
# Makes Prometheus run with the files that are there, and waits until it is ready: take-over.sh ADDRESS
set -eu
# A wildcard is no address to connect to.
case $1 in
    0.0.0.0:* | :*) address=127.0.0.1:${1##*:} ;;
    *) address=$1 ;;
esac

# When the last of these files was written, in seconds since 1970.
written() { stat --format=%Y "$@" | sort -n | tail -n 1; }
# What Prometheus shows of itself, without fractions; 0 if it does not answer.
shown() {
    value=$(curl --silent --fail --max-time 5 "http://$address/metrics" | awk -v name="$1" '$1 == name { printf "%d", $2 }')
    echo "${value:-0}"
}
runs_with_the_line() { [ "$(shown process_start_time_seconds)" -ge "$line" ]; }
has_the_files() {
    [ "$(shown prometheus_config_last_reload_successful)" = 1 ] &&
        [ "$(shown prometheus_config_last_reload_success_timestamp_seconds)" -ge "$files" ]
}

files=$(written /etc/prometheus/prometheus.yml /etc/prometheus/sealbus-alerts.yml)
line=$(written /etc/default/prometheus)
if ! runs_with_the_line; then
    systemctl restart prometheus
elif ! has_the_files; then
    systemctl reload prometheus
else
    echo "nothing new"
    exit 0
fi
for _ in $(seq 60); do
    if runs_with_the_line && has_the_files; then
        echo "it runs with the new files"
        exit 0
    fi
    sleep 1
done
echo "prometheus does not become ready with its configuration; see: journalctl -u prometheus" >&2
exit 1
