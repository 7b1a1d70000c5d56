#!/usr/bin/env bash
# Installs, of the tools that are named, those that are missing, by the packages of Debian or Ubuntu, and says each in one line.
#
#   packaging/set_up.sh TOOL ... [--optional TOOL ...]      rust, c, python, java, valgrind
#
# What is there is left as it is, and then this takes no time. Where nothing can be installed, it lists the commands that somebody with
# the right to do so has to run, and fails, unless only optional tools are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
oldest_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# Where rustup puts programs; a shell that was started before knows it not yet.
PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin

# at_least VERSION OLDEST
at_least() {
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

there() {
  case $1 in
    # It has to run: rustup's cargo is there without a toolchain too.
    rust)
      local version
      version=$(rustc --version 2> /dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p') && [ -n "$version" ] &&
        at_least "$version" "$oldest_rust" && cargo --version > /dev/null 2>&1 ;;
    c) command -v cc > /dev/null && command -v c++ > /dev/null ;;
    python) python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2> /dev/null ;;
    java) command -v javac > /dev/null && command -v mvn > /dev/null ;;
    valgrind) command -v valgrind > /dev/null ;;
    *) echo "error: unknown tool '$1'" >&2 && exit 2 ;;
  esac
}

# The version that apt would install.
candidate() {
  apt-cache policy "$1" 2> /dev/null | sed -n 's/^ *Candidate: \([0-9][0-9.]*\).*/\1/p'
}

packages() {
  case $1 in
    # Debian's own Rust stays at that of the release; rustc-web is the newer one that its browsers are built with.
    rust)
      if at_least "$(candidate rustc)" "$oldest_rust"; then
        echo rustc cargo ca-certificates
      elif at_least "$(candidate rustc-web)" "$oldest_rust"; then
        echo rustc-web cargo-web ca-certificates
      fi ;;
    c) echo build-essential ;;
    python) echo python3 python3-venv ;;
    java) echo default-jdk-headless maven ;;
    valgrind) echo valgrind ;;
  esac
}

# install TOOL ROOT ...: by apt, with ROOT before its commands.
install() {
  local tool=$1 wanted said
  shift
  wanted=$(packages "$tool")
  [ -n "$wanted" ] || return 1
  echo "$tool is missing: installing $wanted"
  # shellcheck disable=SC2086
  if ! said=$("$@" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted 2>&1) || ! there "$tool"; then
    echo "$said" >&2
    return 1
  fi
}

by_hand() {
  case $1 in
    rust) echo "  Rust $oldest_rust or later: https://rustup.rs" ;;
    *) echo "  $1: apt-get install $(packages "$1"), or what your system has for it" ;;
  esac
}

missing=() optional=() needed=yes
for tool in "$@"; do
  if [ "$tool" = --optional ]; then
    needed=no
  elif ! there "$tool"; then
    if [ $needed = yes ]; then missing+=("$tool"); else optional+=("$tool"); fi
  fi
done
[ ${#missing[@]} -gt 0 ] || [ ${#optional[@]} -gt 0 ] || exit 0

root=none
if command -v apt-get > /dev/null; then
  if [ "$(id -u)" = 0 ]; then
    root=
  elif command -v sudo > /dev/null && sudo -n true 2> /dev/null; then
    root="sudo -n"
  fi
fi
if [ "$root" != none ]; then
  # shellcheck disable=SC2086
  $root apt-get update -qq || echo "apt-get update failed; the lists that are there are taken" >&2
fi

left=() left_out=()
for tool in ${missing[@]+"${missing[@]}"} ${optional[@]+"${optional[@]}"}; do
  # shellcheck disable=SC2086
  if [ "$root" = none ] || ! install "$tool" $root; then
    case " ${optional[*]-} " in
      *" $tool "*) left_out+=("$tool") ;;
      *) left+=("$tool") ;;
    esac
  fi
done
if [ ${#left_out[@]} -gt 0 ]; then
  echo "missing, and what needs them is left out:"
  for tool in "${left_out[@]}"; do by_hand "$tool"; done
fi
if [ ${#left[@]} -gt 0 ]; then
  echo "error: these are missing and could not be installed here:" >&2
  for tool in "${left[@]}"; do by_hand "$tool" >&2; done
  exit 1
fi
