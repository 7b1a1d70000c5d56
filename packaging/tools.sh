#!/usr/bin/env bash
# Installs what packaging/try.sh runs programs of other systems with, on Debian or Ubuntu.
set -euo pipefail
root=()
[ "$(id -u)" = 0 ] || root=(sudo -n)
"${root[@]}" apt-get update -qq
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
  wine mingw-w64 qemu-user libc6-arm64-cross libgcc-s1-arm64-cross python3-venv
