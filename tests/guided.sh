#!/usr/bin/env bash
# Fuzzes the readers of files by libFuzzer: inputs that reach something new are kept and changed further.
#
#   tests/guided.sh [READER ...]      default: all of tests/fuzz/readers.rs, with _ for the spaces of their names
#
# SECONDS_EACH (60) is the time for each. Needs a C++ compiler. What reached something new stays under target/guided/corpus, and a find
# comes to rest in target/guided/finds; `target/guided/run READER FILE` repeats it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$PWD/target/guided
seconds=${SECONDS_EACH:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
# The passes of LLVM count the edges between blocks and what is compared; the Rust at hand has them.
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"
# A named target keeps the flags from build scripts.
RUSTFLAGS="${flags//$'\n'/ }" CARGO_TARGET_DIR=$out/build \
  cargo build --quiet --release --target "$host" --manifest-path tests/guided/Cargo.toml
program=$out/build/$host/release/cellsparse-guided
mkdir -p "$out/finds" "$out/seeds" "$out/corpus"
cat > "$out/run" << RUN
#!/bin/sh
CELLSPARSE_FUZZ_READER=\$1 exec "$program" "\$2"
RUN
chmod +x "$out/run"

# Readers of folders and archives write theirs, which memory does soonest; a reader that was ended leaves them.
if [ -d /dev/shm ] && [ -w /dev/shm ]; then
  TMPDIR=$(mktemp -d /dev/shm/guided.XXXXXX)
  export TMPDIR
  trap 'rm -rf "$TMPDIR"' EXIT
fi
readers=("$@")
[ $# -gt 0 ] || mapfile -t readers < <(sed -n 's/.*name: "\([^"]*\)".*/\1/p' tests/fuzz/readers.rs | tr ' ' _)
failed=0
for name in "${readers[@]}"; do
  mkdir -p "$out/seeds/$name" "$out/corpus/$name"
  export CELLSPARSE_FUZZ_READER=$name
  echo "== $name, $seconds s"
  # The first run, of no input, writes the seeds.
  if ! CELLSPARSE_FUZZ_SEEDS=$out/seeds/$name "$program" -runs=0 > "$out/$name.log" 2>&1; then
    tail -n 20 "$out/$name.log" && failed=1
    continue
  fi
  status=0
  "$program" "$out/corpus/$name" "$out/seeds/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=524288 \
    -artifact_prefix="$out/finds/$name-" -print_final_stats=1 > "$out/$name.log" 2>&1 || status=$?
  grep -E 'stat::number_of_executed_units|stat::peak_rss_mb|SUMMARY|panicked' "$out/$name.log" || true
  grep -E ' cov: ' "$out/$name.log" | tail -n 1 || true
  if [ "$status" -ne 0 ]; then
    tail -n 40 "$out/$name.log"
    echo "wrong: see $out/$name.log and $out/finds" && failed=1
  fi
done
exit "$failed"
