#!/usr/bin/env bash
# The digests of N seeds of every protocol must be equal across processes, thread counts, debug and release.
#   tests/determinism.sh [N]        (default 200; builds both profiles if they are not built)
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-200}
cargo build --quiet
cargo build --quiet --release
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

digests() { # name, program, threads
    RAYON_NUM_THREADS=$3 "$2" compare scenarios/storm.toml --protocols naive,2pc,3pc,paxos-commit,saga,calvin,percolator,monolith,ramp,xa \
        --set workload.transactions=40 --seeds "$seeds" --out "$folder/store" --json >"$folder/$1.json" || [ $? -le 2 ]
    # Commit wait would take two seconds in the storm.
    RAYON_NUM_THREADS=$3 "$2" compare scenarios/bounded-clocks.toml --protocols spanner \
        --set workload.transactions=40 --seeds "$seeds" --out "$folder/store" --json >>"$folder/$1.json" || [ $? -le 2 ]
}
digests one target/release/ordain 1
digests two target/release/ordain 2
digests again target/release/ordain 2
digests debug target/debug/ordain 2
for other in two again debug; do
    cmp "$folder/one.json" "$folder/$other.json" || { echo "digests differ: one thread against '$other'"; exit 1; }
done
count=$(grep -c '"[0-9]*": "[0-9a-f]\{32\}"' "$folder/one.json")
[ "$count" -eq $((11 * seeds)) ] || { echo "expected $((11 * seeds)) digests, found $count"; exit 1; }
# Runs in which nothing happens have equal digests, too.
work=$(awk -F '[:,]' '/"invoked":/ { sent = $2 } /"committed":/ { lines++; idle += $2 * 2 < sent } END { print lines + 0, idle + 0 }' "$folder/one.json")
[ "$work" = "11 0" ] || { echo "expected eleven protocols that commit half of their transactions or more, found (protocols, idle): $work"; exit 1; }
echo "$count digests equal: 1 and 2 threads, separate processes, debug and release"
