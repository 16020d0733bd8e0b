#!/usr/bin/env bash
# fi_pingpong's server and client, between the hosts of tests/net/hosts.sh or on this one:
#   fi_pingpong.sh PROVIDER BYTES ITERATIONS CONTROL_PORT
# Prints the client's table; succeeds only if both sides do.
set -euo pipefail

common=(-e rdm -p "$1" -S "$2" -I "$3")
port=$4
at_server=() at_client=() address=127.0.0.1
if [[ -n ${RDGRAM_NET_A-} ]]; then
    at_client=(ip netns exec "$RDGRAM_NET_A")
    at_server=(ip netns exec "$RDGRAM_NET_B")
    address=$RDGRAM_NET_ADDRESS_B
fi

"${at_server[@]}" fi_pingpong "${common[@]}" -B "$port" >/dev/null &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT

# The client does not try again: wait until the server listens (state 0A in the kernel's table).
listening=$(printf ':%04X 0*:0000 0A ' "$port")
for _ in $(seq 100); do
    "${at_server[@]}" grep -qs "$listening" /proc/net/tcp /proc/net/tcp6 && break
    sleep 0.1
done

"${at_client[@]}" fi_pingpong "${common[@]}" -P "$port" "$address"
wait "$server"
trap - EXIT
