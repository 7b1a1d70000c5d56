#!/usr/bin/env bash
# Installs, of the tools that are named, those that are missing, and says each in one line: Rust by rustup where its server can be
# reached, which needs no root; it otherwise, and the others, by the packages of Debian or Ubuntu.
#
#   packaging/set_up.sh TOOL ... [--optional TOOL ...]      rust, c, python, java, valgrind, chromium, firefox
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
    # They have to run: on macOS they are there without the tools, too.
    c) cc --version > /dev/null 2>&1 && c++ --version > /dev/null 2>&1 && command -v make > /dev/null ;;
    python) python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2> /dev/null ;;
    java) command -v javac > /dev/null && command -v mvn > /dev/null ;;
    valgrind) command -v valgrind > /dev/null ;;
    chromium) command -v chromium > /dev/null && command -v chromedriver > /dev/null ;;
    firefox) command -v firefox-esr > /dev/null ;;
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
    chromium) echo chromium chromium-driver ;;
    firefox) echo firefox-esr ;;
  esac
}

# The name that rustup has for this system.
rustup_system() {
  case $(uname -sm) in
    "Linux x86_64") echo x86_64-unknown-linux-gnu ;;
    "Linux aarch64") echo aarch64-unknown-linux-gnu ;;
    "Darwin x86_64") echo x86_64-apple-darwin ;;
    "Darwin arm64") echo aarch64-apple-darwin ;;
    *) return 1 ;;
  esac
}

# Where some Rust is there already, its owner chose it, and another would stand behind it on the path.
install_by_rustup() {
  local system folder said status=0
  if command -v rustup > /dev/null || command -v rustc > /dev/null || ! command -v curl > /dev/null; then return 1; fi
  system=$(rustup_system) || return 1
  folder=$(mktemp -d) || return 1
  if curl --proto '=https' --tlsv1.2 -sSf --connect-timeout 10 --max-time 300 -o "$folder/rustup-init" \
    "https://static.rust-lang.org/rustup/dist/$system/rustup-init" 2> /dev/null; then
    echo "rust is missing: installing it by rustup"
    chmod +x "$folder/rustup-init"
    if said=$("$folder/rustup-init" -y --profile minimal --no-modify-path 2>&1) && there rust; then
      echo "rust: make finds it; for a shell: . \"${CARGO_HOME:-${HOME:-/root}/.cargo}/env\""
    else
      echo "$said" >&2
      status=1
    fi
  else
    status=1
  fi
  rm -r "$folder"
  return $status
}

# install_by_apt TOOL ROOT ...: with ROOT before its commands.
install_by_apt() {
  local tool=$1 wanted said
  shift
  if [ $listed = no ]; then
    "$@" apt-get update -qq || echo "apt-get update failed; the lists that are there are taken" >&2
    listed=yes
  fi
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

root=none listed=no
if command -v apt-get > /dev/null; then
  if [ "$(id -u)" = 0 ]; then
    root=
  elif command -v sudo > /dev/null && sudo -n true 2> /dev/null; then
    root="sudo -n"
  fi
fi

left=() left_out=()
for tool in ${missing[@]+"${missing[@]}"} ${optional[@]+"${optional[@]}"}; do
  if [ "$tool" = rust ] && install_by_rustup; then continue; fi
  # shellcheck disable=SC2086
  if [ "$root" = none ] || ! install_by_apt "$tool" $root; then
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
