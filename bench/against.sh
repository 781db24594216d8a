#!/usr/bin/env bash
# Is this tree slower than an earlier commit? Both are built; hippodrome compare races them in rounds, side A being the other commit and side B this tree, and
# tells the ratios with their 95 % intervals. Exit status: that of hippodrome compare.
# Usage: bench/against.sh COMMIT [PAIRS [OPTIONS OF hippodrome compare AND run ..]]   (default: 12 pairs, --duration 5s)
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
# Options that come later win: another --out keeps the runs. What is left to the machine may not come to the same in both.
./target/release/hippodrome compare --a-binary "$work/target/release/hippodrome" --pairs "$pairs" --out "$work/runs" \
  --connections 1 --load-threads 1 "${options[@]}"
