#!/usr/bin/env bash
# fi_pingpong's server and client on this host, with data verification on both sides:
#   pingpong.sh PROVIDER MODE ITERATIONS CONTROL_PORT
# Prints the client's table; succeeds only if both sides do.
set -euo pipefail

common=(-e rdm -p "$1" -m "$2" -I "$3" -S all -c)
port=$4

fi_pingpong "${common[@]}" -B "$port" >/dev/null &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT

# The client does not try again: wait until the server listens (state 0A in the kernel's table).
listening=$(printf ':%04X 0*:0000 0A ' "$port")
for _ in $(seq 100); do
    grep -qs "$listening" /proc/net/tcp /proc/net/tcp6 && break
    sleep 0.1
done

fi_pingpong "${common[@]}" -P "$port" 127.0.0.1
wait "$server"
trap - EXIT
