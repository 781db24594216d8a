#!/usr/bin/env bash
# The pictures in README.md: the commands of its five questions, one after the other, and of each page the chart that answers the question.
# Usage: bench/pictures.sh [RESULTS]   (default: a new folder; in one that has results already, what is missing is made; about half an hour in all)
set -euo pipefail
cd "$(dirname "$0")/.."
results=${1:-$(mktemp -d)}
cargo build --release --locked --quiet
binary=./target/release/hippodrome

"$binary" sweep auth-x-batch --out "$results/auth-x-batch"
"$binary" compare --a auth=mac --b auth=mac-gmac --out "$results/compare"
"$binary" search --slo p99=5ms --out "$results/search"
"$binary" sweep replicas --out "$results/replicas"
[[ -e $results/run/report.json ]] || "$binary" run --out "$results/run"

# The picture NAME of results DIR becomes docs/pictures/TO: picture DIR NAME TO.
picture() {
  local all
  all=$(mktemp -d)
  "$binary" report "$results/$1" --svg "$all" > "$all/written"
  mv "$all/$2.svg" "docs/pictures/$3.svg"
  rm -r "$all"
}
mkdir -p docs/pictures
picture auth-x-batch matrix-ops_per_s authentication-and-batching
picture auth-x-batch pareto throughput-and-latency
picture compare ratios difference
picture search curve-p99 highest-rate
picture replicas along-replicas-ops_per_s replicas
picture run path-median where-time-goes
echo "pictures of $results written to docs/pictures"
