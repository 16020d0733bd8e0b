#!/bin/sh
# Runs fabtests' runner in a world of its own: `run.sh DIRECTORY ARGUMENT...`, where DIRECTORY holds fabtests' programs and `runfabtests.sh`.
#
# After every run and after every failure that runner ends, with SIGKILL, each process whose name begins with "fi_" - on the whole machine. A process
# namespace leaves it nothing but its own. A network namespace keeps its fixed ports apart from everybody else's, and has an address that is not loopback.
set -eu

programs=$(cd "$1" && pwd)
shift

# Without root, a user namespace makes the rest possible where the system permits it.
as_root=
[ "$(id -u)" -eq 0 ] || as_root="--user --map-root-user"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

# shellcheck disable=SC2086 # two words, or none
unshare $as_root --net --pid --fork --kill-child --mount-proc sh -c '
	ip link set lo up
	ip link add rdgram0 type veth peer name rdgram1
	ip address add 198.18.0.1/24 dev rdgram0
	ip link set rdgram0 up
	ip link set rdgram1 up
	exec "$@"
' sh env PATH="$programs:$PATH" "$programs/runfabtests.sh" "$@"
