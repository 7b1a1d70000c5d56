#!/usr/bin/env bash
# The page of the server in a real browser. Left out, and said so, where there is no Chromium with its driver.
# tests/browser.sh [CELLSPARSE] [KEY=VALUE ...]; without a program the one of the development profile is built.
set -euo pipefail
cd "$(dirname "$0")/.."

chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
driver=$(command -v chromedriver || true)
if [ -z "$chromium" ] || [ -z "$driver" ] || ! command -v python3 > /dev/null; then
  echo "The tests in a browser are LEFT OUT: they need chromium, chromedriver and python3"
  echo "(on Debian and Ubuntu: apt-get install chromium chromium-driver python3)."
  exit 0
fi
program=target/debug/cellsparse
if [ $# -gt 0 ] && [[ "$1" != *=* ]]; then
  program=$1
  shift
else
  # With SAM, as the tests of Rust have it.
  cargo build --workspace --bin cellsparse --features cellsparse-cli/sam
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
if [ -n "${CELLSPARSE_BROWSER_OUT:-}" ]; then
  trap - EXIT
  out=$CELLSPARSE_BROWSER_OUT
  rm -rf "$out"
  mkdir -p "$out"
fi
python3 tests/browser/page_test.py "$program" "$chromium" "$driver" "$out" "$@"
