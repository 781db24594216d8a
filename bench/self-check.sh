#!/usr/bin/env bash
# Can comparisons on this machine be trusted? The same setting is compared with itself, which must show no difference in 19 of 20 comparisons, and with itself
# under a handicap of 5 % of its CPU time, which must be found in most. Real clusters; with the defaults it takes about an hour.
# Usage: bench/self-check.sh [TRIALS [PAIRS [OPTIONS OF hippodrome run ..]]]   (default: 20 trials of 10 pairs, --duration 3s --warmup 1s)
set -euo pipefail
cd "$(dirname "$0")/.."
trials=${1:-20}
pairs=${2:-10}
shift $(($# < 2 ? $# : 2))
options=("$@")
((${#options[@]})) || options=(--duration 3s --warmup 1s)
binary=${HIPPODROME:-./target/release/hippodrome}
[[ -n ${HIPPODROME:-} ]] || cargo build --release --locked --quiet

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One comparison: prints what it concludes of throughput and of CPU time per operation. $1: its name; the rest are options of hippodrome compare.
conclusions() {
  local name=$1
  shift
  # Both by name, so that the runs of both sides are made in the same way.
  local status=0
  "$binary" compare --a-binary "$binary" --b-binary "$binary" "$@" --pairs "$pairs" "${options[@]}" --out "$work/$name" > "$work/$name.txt" 2> "$work/$name.log" || status=$?
  # 4: a run was INVALID, so that nothing is concluded. That is neither a false alarm nor a slowdown that was found.
  ((status == 0 || status == 4)) || { tail -n 20 "$work/$name.txt" "$work/$name.log" >&2; exit 3; }
  awk -F, '$3 == "ops_per_s" || $3 == "cpu_us_per_op" { printf("%s%s", sep, $NF); sep = " " } END { print "" }' "$work/$name/comparison.csv"
}

false_alarms=0
for ((trial = 1; trial <= trials; trial++)); do
  result=$(conclusions "same-$trial")
  read -r throughput cpu <<< "$result"
  [[ $throughput != better && $throughput != worse ]] || false_alarms=$((false_alarms + 1))
  echo "the same, $trial of $trials: throughput $throughput, CPU per operation $cpu"
done

# 5 % of the CPU time of an operation, in equal parts at four replicas.
burn=$(awk -F, '$3 == "cpu_us_per_op" { printf("%d", $4 * 1000 * 0.05 / 4 + 0.5) }' "$work/same-1/comparison.csv")
((burn > 0)) || burn=1
found=0
planted=$(((trials + 3) / 4))
for ((trial = 1; trial <= planted; trial++)); do
  result=$(conclusions "slower-$trial" --b "burn-ns=$burn")
  read -r throughput cpu <<< "$result"
  [[ $throughput != worse && $cpu != worse ]] || found=$((found + 1))
  echo "5 % slower ($burn ns burned for each operation), $trial of $planted: throughput $throughput, CPU per operation $cpu"
done

echo "false alarms: $false_alarms of $trials (allowed: one in twenty); planted slowdowns found: $found of $planted (asked: more than half)"
if ((false_alarms * 20 <= trials && found * 2 > planted)); then
  echo PASS
else
  echo FAIL
  exit 1
fi
