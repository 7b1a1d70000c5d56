#!/usr/bin/env bash
# Writes target/dist/SHA256SUMS, of all that is handed out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../target/dist"
find . -maxdepth 2 \( -name '*.whl' -o -name '*.tar.gz' -o -name '*.zip' -o -name '*.jar' -o -name '*.sbom.json' \) -not -path './try/*' |
  sed 's|^\./||' | LC_ALL=C sort | xargs -r sha256sum > SHA256SUMS
