#!/usr/bin/env bash
# Where the CPU time of an operation goes: a race under perf, its samples by kind of work, ns per operation, as a Markdown table.
# Usage: bench/profile.sh [OPTIONS OF hippodrome run ..]   (needs perf, and the right to sample all processes; counters of the processor are not needed)
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${HIPPODROME:-./target/release/hippodrome}
[[ -n ${HIPPODROME:-} ]] || cargo build --release --locked --quiet
command -v perf > /dev/null || { echo "bench/profile.sh: perf is not installed" >&2; exit 1; }

# Samples count from 1 s after the first one on: the load has begun by then, and goes on for as long.
warmup=2 seconds=6 hertz=2999
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
perf record --quiet --freq "$hertz" --event cpu-clock --all-cpus --output "$work/perf.data" -- \
  "$binary" run "$@" --warmup "${warmup}s" --duration "${seconds}s" --out "$work/run" > "$work/run.txt" 2> "$work/run.log" ||
  { tail -n 20 "$work/run.txt" "$work/run.log" >&2; exit 1; }
operations=$(awk '/^Throughput/ { gsub(",", "", $2); print $2 }' "$work/run.txt")

echo "| ns per operation | replicas | load generator | together |"
echo "|---|---|---|---|"
perf script --input "$work/perf.data" --fields comm,time,ip,sym 2> "$work/perf.log" |
  awk -v operations="$operations" -v seconds="$seconds" -v from="$((warmup / 2))" -v hertz="$hertz" '
    # The first that matches counts. What the kernel does, it does at addresses in the upper half.
    function kind(address, symbol) {
      if (address ~ /^ffff/) return "kernel: sockets, scheduling"
      if (symbol ~ /blake3|ed25519|curve25519|aws_lc|sha512/) return "hashing, signing, verifying"
      if (symbol ~ /Digester|verify_requests|each_tag|keyed_tags|BySigner|digest_of|digest_by_length|TagJudge|black_box|auth::/) return "making ready for that, comparing"
      if (symbol ~ /malloc|_int_free|cfree|realloc|unlink_chunk|rust_alloc|rust_dealloc|RawVec|calloc|shared_v_drop|shared_drop|recycler/) return "memory: asking for it, giving it back"
      if (symbol ~ /memmove|memcpy|memset|memcmp/) return "copying, clearing, comparing bytes"
      if (symbol ~ /crc32/) return "checksums of frames"
      if (symbol ~ /wire::|requests::/) return "encoding, decoding, tables"
      if (symbol ~ /execute|Executor|app::/) return "execution, client table, replies"
      if (symbol ~ /loadgen|protocol::client/) return "the load generator: clients, tally"
      if (symbol ~ /protocol::/) return "protocol core"
      if (symbol ~ /hdrhistogram|clock_gettime|read_tsc|sampling/) return "measuring"
      return "everything else"
    }
    $1 ~ /^(fused|network|verify|order|execute|egress|persist|load-)/ {
      time = 0
      for (at = 2; at <= NF && !time; at++) if ($at ~ /^[0-9]+\.[0-9]+:$/) time = $at + 0
      if (!begun) begun = time
      if (time - begun < from || time - begun > from + seconds) next
      symbol = ""
      for (rest = at + 1; rest <= NF; rest++) symbol = symbol " " $rest
      what = kind($at, symbol)
      count[what, $1 ~ /^load/]++
      whole[what]++
      total++
    }
    END {
      share = 1e9 / hertz / seconds / operations
      for (what in whole) printf("%d\t| %s | %.0f | %.0f | %.0f |\n", whole[what], what, count[what, 0] * share, count[what, 1] * share, whole[what] * share)
      printf("0\t| together | | | %.0f |\n", total * share)
    }' | sort --reverse --numeric-sort | cut -f 2
awk '/^(VALID|INVALID|Throughput|CPU|Transport|Build)/' "$work/run.txt"
