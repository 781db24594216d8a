#!/usr/bin/env bash
# The figures in README.md: each setting several times, interleaved so that a drifting machine favours none, median and spread as a Markdown table.
# Usage: bench/figures.sh [REPEATS [DURATION]]   (default: 5 runs of 5s each)
set -euo pipefail
cd "$(dirname "$0")/.."
repeats=${1:-5}
duration=${2:-5s}
settings=(
  "--auth mac"
  "--auth mac --transport io-uring"
  "--auth mac --transport tokio-uring"
  "--auth mac --auth-granularity frame"
  "--execution tentative"
  "--durability wal"
  "--auth none"
  "--auth hybrid"
  "--auth ed25519-batch"
  "--auth ed25519-batch --auth-granularity frame"
  "--auth ed25519"
  "--app kv --workload a"
  "--clients 1"
  "--clients 1 --transport io-uring"
  "--clients 1 --execution tentative"
  "--rate 20000"
)

cargo build --release --quiet
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
for ((repeat = 0; repeat < repeats; repeat++)); do
  for index in "${!settings[@]}"; do
    # The settings are words without spaces of their own.
    # shellcheck disable=SC2086
    ./target/release/hippodrome run ${settings[index]} --duration "$duration" --out "$results/$index-$repeat" --json \
      > "$results/$index-$repeat.json" 2> "$results/$index-$repeat.log" || echo "INVALID: ${settings[index]} (run $repeat)" >&2
  done
done

# The value of a key that has one number, over all runs of a setting: median (least to most), divided by $3.
spread() {
  cat "$results/$1"-*.json | awk -v key="\"$2\":" -v by="$3" -v digits="$4" '
    $1 == key { gsub(",", "", $2); values[++n] = $2 / by }
    END {
      for (i = 2; i <= n; i++) for (j = i; j > 1 && values[j] < values[j - 1]; j--) { t = values[j]; values[j] = values[j - 1]; values[j - 1] = t }
      printf("%.*f (%.*f to %.*f)", digits, values[int((n + 1) / 2)], digits, values[1], digits, values[n])
    }'
}

echo "| \`hippodrome run\` with | thousand operations per second | p50, ms | p99, ms | CPU µs per operation |"
echo "|---|---|---|---|---|"
for index in "${!settings[@]}"; do
  # The percentiles of latency are the only ones with p90 beside them; those of phases come later in the file.
  for file in "$results/$index"-*.json; do
    awk '/"latency_us": *\{/ { inside = 1 } inside && /"p50"/ { sub("p50", "latency_p50") } inside && /"p99":/ { sub("p99", "latency_p99") } /\}/ { inside = 0 } { print }' \
      "$file" > "$file.tmp" && mv "$file.tmp" "$file"
  done
  echo "| \`${settings[index]}\` | $(spread "$index" ops_per_s 1000 1) | $(spread "$index" latency_p50 1000 2) | $(spread "$index" latency_p99 1000 2) | $(spread "$index" us_per_op_total 1 2) |"
done
