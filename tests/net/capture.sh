#!/usr/bin/env bash
# Captures what programs send, as the command of hosts.sh:
#   capture.sh FILE PROVIDER PROGRAM...
# On host A: the loopback interface, over which each PROGRAM runs, and the interface to host B, with which
# fi_pingpong talks. Prints what the programs and the capture print; succeeds only if all of them do.
set -euo pipefail

file=$1 provider=$2
shift 2
on_a=(ip netns exec "$RDGRAM_NET_A")
said=$(mktemp)

# Room in the kernel (MiB) and between threads (bytes, packets), so that nothing is lost while the disk is slow.
"${on_a[@]}" dumpcap -q -B 64 -C 256000000 -N 1000000 -f udp -i lo -i eth0 -w "$file" 2>"$said" &
capture=$!
trap 'kill "$capture" 2>/dev/null || true; rm -f "$said"' EXIT

# It names the file once it listens.
for _ in $(seq 100); do
    grep -qs '^File:' "$said" && break
    sleep 0.1
done

for program in "$@"; do
    FI_RDGRAM_IFACE=lo FI_RDGRAM_LOCAL=off "${on_a[@]}" "$program"
done
"$(dirname "$0")/../bench/fi_pingpong.sh" "$provider" 262144 10 47592

# What has arrived last is still on its way through the capture's buffers.
sleep 1
kill -INT "$capture"
wait "$capture"
cat "$said"
