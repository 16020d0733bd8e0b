#!/usr/bin/env bash
# Two hosts on one machine: a network namespace each, joined by a bridge in a third, in which the command
# runs. Needs root. Everything made here is taken down at the end, however it ends; nothing outside these
# namespaces is touched, and no packet leaves them.
#
#   hosts.sh run [--mtu BYTES] [--loss-per-mille N] [--split-trains] -- COMMAND [ARGUMENT...]
#   hosts.sh clean            take down what runs that were killed have left
#   hosts.sh launch HOST ...  called by mpirun in place of ssh (see below)
#
# --loss-per-mille  so many of a thousand arriving UDP packets are dropped at random, on both hosts
# --split-trains    segment on the sending host (gso_max_segs 1), so that single datagrams are lost;
#                   without it veth carries a whole train of datagrams as one packet, and it is lost whole
#
# The command finds:
#   RDGRAM_NET                            the namespace of the bridge, in which it runs
#   RDGRAM_NET_A, RDGRAM_NET_B            the hosts' namespaces, for `ip netns exec`
#   RDGRAM_NET_ADDRESS_A, ..._ADDRESS_B   their addresses
#   RDGRAM_NET_ADDRESS                    the address of the bridge, where the command itself runs
# and `mpirun` in the command starts one proxy on each host, by these variables of MPICH's launcher Hydra:
#   HYDRA_LAUNCHER, HYDRA_LAUNCHER_EXEC, HYDRA_HOST_FILE, HYDRA_IFACE
set -euo pipefail

readonly network=10.213.77
readonly address_a=$network.1 address_b=$network.2 address_bridge=$network.254
readonly prefix=rdgram-test

die() {
    echo "hosts.sh: $*" >&2
    exit 1
}

need_root() {
    [[ $(id -u) == 0 ]] || die "needs root"
    export PATH=$PATH:/usr/sbin:/sbin
    local tool
    for tool in ip nft; do
        command -v "$tool" >/dev/null || die "needs the program '$tool'"
    done
}

delete_namespaces() {
    local name
    for name in "$@"; do
        # Names in use are those made before a failure: absent ones are no error here.
        ip netns delete "$name" 2>/dev/null || true
    done
}

# Whatever still runs on the hosts was started by the command.
end_processes() {
    local name signal pids attempt
    for signal in TERM KILL; do
        for attempt in $(seq 20); do
            pids=$(for name in "$@"; do ip netns pids "$name" 2>/dev/null || true; done)
            [[ -n $pids ]] || return 0
            # shellcheck disable=SC2086 # one word per process
            [[ $attempt != 1 ]] || kill -s "$signal" $pids 2>/dev/null || true
            sleep 0.1
        done
    done
}

# With the namespace its interfaces disappear, veth pairs from both ends.
clean_up() {
    local status=$?
    trap - EXIT
    # Whoever reads the report may be gone, and signals may come when it has begun: the hosts are taken down all the same.
    trap '' PIPE TERM INT HUP
    local host
    for host in a b; do
        report_received "$host" 2>/dev/null || true
        [[ $loss == 0 ]] || report_dropped "$host" 2>/dev/null || true
    done
    end_processes "$id-a" "$id-b" "$id-bridge"
    delete_namespaces "$id-a" "$id-b" "$id-bridge"
    rm -rf "$scratch"
    exit "$status"
}

# What shows that something was sent between the hosts, and not inside one of them.
report_received() {
    local packets
    packets=$(ip -n "$id-$1" -s -o link show eth0 2>/dev/null | sed -n 's/.*RX:[^\\]*\\ *[0-9]* *\([0-9]*\) .*/\1/p') || return 0
    echo "hosts.sh: received ${packets:-0} on $1"
}

report_dropped() {
    local packets
    packets=$(ip netns exec "$id-$1" nft list table inet rdgram_loss 2>/dev/null |
        sed -n 's/.*counter packets \([0-9]*\).*drop.*/\1/p') || return 0
    echo "hosts.sh: dropped ${packets:-0} on $1"
}

make_host() {
    local host=$1 address=$2 namespace=$id-$1
    ip netns add "$namespace"
    ip -n "$namespace" link set lo up
    ip -n "$namespace" link add eth0 type veth peer name "port-$host" netns "$id-bridge"
    ip -n "$namespace" link set eth0 mtu "$mtu"
    ip -n "$id-bridge" link set "port-$host" mtu "$mtu"
    if [[ $split_trains == 1 ]]; then
        ip -n "$namespace" link set eth0 gso_max_segs 1
    fi
    ip -n "$namespace" address add "$address/24" dev eth0
    ip -n "$namespace" link set eth0 up
    ip -n "$id-bridge" link set "port-$host" master bridge
    ip -n "$id-bridge" link set "port-$host" up
    if [[ $loss != 0 ]]; then
        ip netns exec "$namespace" nft -f - <<RULES
table inet rdgram_loss {
    chain arriving {
        type filter hook input priority 0; policy accept;
        iif eth0 meta l4proto udp numgen random mod 1000 < $loss counter drop
    }
}
RULES
    fi
}

make_hosts() {
    ip netns add "$id-bridge"
    ip -n "$id-bridge" link set lo up
    ip -n "$id-bridge" link add bridge type bridge forward_delay 0
    ip -n "$id-bridge" link set bridge mtu "$mtu"
    ip -n "$id-bridge" address add "$address_bridge/24" dev bridge
    make_host a "$address_a"
    make_host b "$address_b"
    ip -n "$id-bridge" link set bridge up
}

# A bridge port forwards only some time after it came up.
wait_for_link() {
    local attempt address
    for address in "$address_a" "$address_b"; do
        for attempt in $(seq 50); do
            if ip netns exec "$id-bridge" bash -c "exec 3<>/dev/udp/$address/9 && echo >&3" 2>/dev/null &&
                ip -n "$id-bridge" neighbour show "$address" | grep -q lladdr; then
                continue 2
            fi
            sleep 0.1
        done
        die "$address cannot be reached from the bridge"
    done
}

run() {
    mtu=1500 loss=0 split_trains=0
    while [[ $# -gt 0 ]]; do
        case $1 in
            --mtu) mtu=$2; shift 2 ;;
            --loss-per-mille) loss=$2; shift 2 ;;
            --split-trains) split_trains=1; shift ;;
            --) shift; break ;;
            *) die "unknown option $1" ;;
        esac
    done
    [[ $# -gt 0 ]] || die "no command given"
    [[ $mtu =~ ^[0-9]+$ && $loss =~ ^[0-9]+$ && $loss -le 1000 ]] || die "numbers expected"
    need_root
    id=$prefix-$$
    scratch=$(mktemp -d)
    trap clean_up EXIT
    # The clean-up is run once, by EXIT.
    trap 'exit 143' TERM
    trap 'exit 130' INT
    trap 'exit 129' HUP
    make_hosts
    wait_for_link
    printf '%s\n' "$address_a" "$address_b" >"$scratch/hosts"
    printf '%s %s\n' 127.0.0.1 localhost ::1 localhost "$address_a" "$id-a" "$address_b" "$id-b" >"$scratch/names"
    printf '#!/bin/sh\nexec %q launch "$@"\n' "$(realpath "$0")" >"$scratch/launch"
    chmod +x "$scratch/launch"
    RDGRAM_NET=$id-bridge RDGRAM_NET_A=$id-a RDGRAM_NET_B=$id-b \
        RDGRAM_NET_ADDRESS_A=$address_a RDGRAM_NET_ADDRESS_B=$address_b RDGRAM_NET_ADDRESS=$address_bridge \
        RDGRAM_NET_NAMES=$scratch/names \
        HYDRA_LAUNCHER=ssh HYDRA_LAUNCHER_EXEC=$scratch/launch HYDRA_HOST_FILE=$scratch/hosts HYDRA_IFACE=bridge \
        ip netns exec "$id-bridge" "$@" &
    local child=$!
    # Waiting for a background child, unlike running one, can be interrupted by a signal.
    wait "$child"
}

# mpirun calls its launcher as ssh: options, the host's address, the command in words for a shell.
launch() {
    while [[ ${1-} == -* ]]; do
        shift
    done
    local host=$1 namespace
    shift
    case $host in
        "$RDGRAM_NET_ADDRESS_A") namespace=$RDGRAM_NET_A ;;
        "$RDGRAM_NET_ADDRESS_B") namespace=$RDGRAM_NET_B ;;
        *) die "no host has the address $host" ;;
    esac
    # Daemons of one job that find each other's files in one directory trip over them: Open MPI 4's crash now and then.
    export TMPDIR=${HYDRA_LAUNCHER_EXEC%/*}/$namespace
    mkdir -p "$TMPDIR"
    # Each host has a name of its own, which resolves on both: Open MPI tells hosts apart by their names.
    # shellcheck disable=SC2016 # for the inner shell
    exec ip netns exec "$namespace" unshare --uts bash -c '
        hostname "$1" && mount --bind "$RDGRAM_NET_NAMES" /etc/hosts && exec bash -c "$2"
    ' launch "$namespace" "$*"
}

clean() {
    need_root
    local name pid
    for name in $(ip netns list | sed -n "s/^\($prefix-[0-9]*-[a-z]*\).*/\1/p"); do
        pid=${name#"$prefix-"}
        pid=${pid%%-*}
        if ! kill -0 "$pid" 2>/dev/null; then
            echo "hosts.sh: taking down $name"
            end_processes "$name"
            delete_namespaces "$name"
        fi
    done
}

case ${1-} in
    run | clean | launch) "$@" ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
esac
