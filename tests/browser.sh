#!/usr/bin/env bash
# The page of the server in real browsers, Chromium (with its driver) and Firefox (which needs none): in each that is there, and it is
# said which is left out.
# tests/browser.sh [CELLSPARSE] [browser=chromium|firefox] [KEY=VALUE ...]; without a program the one of the development profile is built.
set -euo pipefail
cd "$(dirname "$0")/.."

# first COMMAND ...: the path of the first one that is there.
first() {
  local one
  for one in "$@"; do
    if command -v "$one"; then return; fi
  done
}

chromium=$(first chromium chromium-browser google-chrome)
driver=$(first chromedriver)
firefox=$(first firefox-esr firefox)
program=
if [ $# -gt 0 ] && [[ "$1" != *=* ]]; then
  program=$1
  shift
fi
only=
given=()
for argument in "$@"; do
  if [[ "$argument" == browser=* ]]; then only=${argument#browser=}; else given+=("$argument"); fi
done
case "$only" in
  "" | chromium | firefox) ;;
  *) echo "browser=$only is neither chromium nor firefox" >&2 && exit 2 ;;
esac

# What is measured is measured in the first browser; in the second one the same is done with less learning.
runs=()
if [ -n "$chromium" ] && [ -n "$driver" ]; then
  [ "$only" = firefox ] || runs+=(chromium)
else
  echo "The tests in Chromium are LEFT OUT: they need chromium and chromedriver (Debian: apt-get install chromium chromium-driver)."
fi
if [ -n "$firefox" ]; then
  [ "$only" = chromium ] || runs+=(firefox)
else
  echo "The tests in Firefox are LEFT OUT: they need firefox (Debian: apt-get install firefox-esr)."
fi
if [ ${#runs[@]} -gt 0 ] && ! command -v python3 > /dev/null; then
  echo "The tests in browsers are LEFT OUT: they need python3."
  exit 0
fi
if [ ${#runs[@]} -eq 0 ]; then
  [ -z "$only" ] || exit 1
  exit 0
fi

if [ -z "$program" ]; then
  # With SAM, as the tests of Rust have it.
  cargo build --workspace --bin cellsparse --features cellsparse-cli/sam
  program=target/debug/cellsparse
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
if [ -n "${CELLSPARSE_BROWSER_OUT:-}" ]; then
  trap - EXIT
  out=$CELLSPARSE_BROWSER_OUT
  rm -rf "$out"
  mkdir -p "$out"
fi
for one in "${runs[@]}"; do
  case "$one" in
    chromium) python3 tests/browser/page_test.py "$program" "$out" chromium "$chromium" "$driver" ${given[@]+"${given[@]}"} ;;
    firefox)
      less=()
      [ "${runs[0]}" = firefox ] || less=(seconds=4 rounds=0)
      python3 tests/browser/page_test.py "$program" "$out" firefox "$firefox" ${less[@]+"${less[@]}"} ${given[@]+"${given[@]}"}
      ;;
  esac
done
