#!/bin/bash
# A task of openbell: waits until a port takes connections, so that steps which need it start after that.
#
# Environment: WAIT_FOR, as host:port.
set -u
folder=${OPENBELL_FOLDER:?is set by openbell; for a trial by hand name a folder that you may write}
target=${WAIT_FOR:-}
host=${target%:*} port=${target##*:}
if [ -z "$host" ] || [ "$host" = "$target" ]; then
    echo "WAIT_FOR is \"$target\"; set it to host:port" >&2
    exit 2
fi

# A file of the attempt is replaced, so that nobody reads half of it.
replace() {
    cat >"$folder/$1.part" && mv "$folder/$1.part" "$folder/$1"
}

until=
[ -z "${OPENBELL_DEADLINE:-}" ] || until=$(date -d "$OPENBELL_DEADLINE" +%s)

trap 'echo "asked to stop after $SECONDS s"; exit 143' TERM
until (: <>"/dev/tcp/$host/$port") 2>/dev/null; do
    echo "{\"ready\": false, \"degraded\": \"$target takes no connections yet\", \"facts\": {\"waited_seconds\": $SECONDS}}" | replace status.json
    if [ -n "$until" ] && [ "$(date +%s)" -ge "$until" ]; then
        echo "$target took no connections until the deadline" >&2
        exit 1
    fi
    # The shell handles a signal when its child ends; this one ends at once.
    sleep 1 &
    wait $!
done
echo "$target takes connections after $SECONDS s"
echo "{\"waited_seconds\": $SECONDS}" | replace result.json
