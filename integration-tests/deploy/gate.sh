#!/bin/sh
# A processor that passes each request on to Sealbus' own once its gate is open: there is no file STAGE-NUMBER beside this one.
#   $1  the stage
gates=${0%/*}
# The one that it passes requests to has another parent than the worker.
unset SEALBUS_PARENT_PID
while IFS= read -r line; do
    number=$(printf '%s' "$line" | sed -n 's/.*s-t01000-\([0-9]*\)\..*/\1/p')
    while [ -e "$gates/$1-$number" ]; do sleep 0.2; done
    printf '%s\n' "$line"
done | sealbus-worker processor "$1"
