#!/usr/bin/env bash
# Runs a command and says how many UDP datagrams the kernel dropped meanwhile for lack of room in sockets,
# on both hosts of tests/net/hosts.sh, or here where there are none:
#   udp_drops.sh COMMAND [ARGUMENT...]
# Prints "bench: udp host=HOST receive_buffer_errors=N" for each. On the host itself the drops of every
# other program count too.
set -euo pipefail

# The counter's column is found by its name: kernels differ in the number of columns.
counter() {
    local -a at=()
    [[ -z $1 ]] || at=(ip netns exec "$1")
    "${at[@]}" cat /proc/net/snmp | awk '/^Udp:/ {
        if (!column) { for (i = 2; i <= NF; i++) if ($i == "RcvbufErrors") column = i }
        else { print $column; exit }
    }'
}

hosts=("${RDGRAM_NET_A-}")
[[ -z ${RDGRAM_NET_B-} ]] || hosts+=("$RDGRAM_NET_B")
before=()
for host in "${hosts[@]}"; do
    before+=("$(counter "$host")")
done
status=0
"$@" || status=$?
for i in "${!hosts[@]}"; do
    echo "bench: udp host=${hosts[$i]:-here} receive_buffer_errors=$(($(counter "${hosts[$i]}") - before[i]))"
done
exit "$status"
