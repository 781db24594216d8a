#!/usr/bin/env bash
# Is this tree slower than an earlier commit? Both are built, raced in pairs (the order within a pair alternates, so that a drifting machine favours none), and
# the ratio this / that of each pair gives a median with a 95 % bootstrap interval, for operations per second and for CPU microseconds per operation.
# Usage: bench/against.sh COMMIT [PAIRS [OPTIONS OF hippodrome run ..]]   (default: 12 pairs, --duration 5s)
set -euo pipefail
cd "$(dirname "$0")/.."
commit=${1:?the commit to compare with, such as HEAD~1}
pairs=${2:-12}
shift $(($# < 2 ? $# : 2))
options=("$@")
((${#options[@]})) || options=(--duration 5s)

work=$(mktemp -d)
trap 'git worktree remove --force "$work/tree" 2>/dev/null || true; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$work/tree" "$commit"
CARGO_TARGET_DIR="$work/target" cargo build --release --locked --quiet --manifest-path "$work/tree/Cargo.toml"
cargo build --release --locked --quiet
declare -A binary=([this]=./target/release/hippodrome [that]="$work/target/release/hippodrome")

# One run: appends 'ops_per_s us_per_op' to its side's table.
race() {
  "${binary[$1]}" run "${options[@]}" --out "$work/$1-$2" --json > "$work/run.json" 2> "$work/run.log" ||
    { echo "INVALID: $1, pair $2"; tail -n 20 "$work/run.log"; } >&2
  awk '$1 == "\"ops_per_s\":" { ops = $2 + 0 } $1 == "\"us_per_op_total\":" { cpu = $2 + 0 } END { print ops, cpu }' "$work/run.json" >> "$work/$1"
}
for ((pair = 1; pair <= pairs; pair++)); do
  if ((pair % 2)); then race this "$pair"; race that "$pair"; else race that "$pair"; race this "$pair"; fi
done

paste "$work/this" "$work/that" | awk -v commit="$commit" '
  function median(values, n,    i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && values[j] < values[j - 1]; j--) { t = values[j]; values[j] = values[j - 1]; values[j - 1] = t }
    return n % 2 ? values[(n + 1) / 2] : (values[n / 2] + values[n / 2 + 1]) / 2
  }
  function ratio(name, values,    i, r, again, medians) {
    for (r = 1; r <= 2000; r++) {
      for (i = 1; i <= NR; i++) again[i] = values[int(rand() * NR) + 1]
      medians[r] = median(again, NR)
    }
    median(medians, 2000)
    printf("%-28s this / %s: %.3f (95 %% interval %.3f to %.3f, %d pairs)\n", name, commit, median(values, NR), medians[50], medians[1951], NR)
  }
  { printf("pair %2d  this %.0f ops/s, %.3f us/op   that %.0f ops/s, %.3f us/op\n", NR, $1, $2, $3, $4); ops[NR] = $1 / $3; cpu[NR] = $2 / $4 }
  END { srand(1); ratio("operations per second", ops); ratio("CPU time per operation", cpu) }'
