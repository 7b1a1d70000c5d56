#!/usr/bin/env bash
# Packs the jars of Java and of QuPath's extension with the native libraries that packaging/dist.sh built, under target/dist/jars: one
# with the libraries of all platforms, and one for each platform. Needs a JDK of version 17 or later and Maven.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$PWD/target/dist
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

rm -rf "$out/jars"
mvn --batch-mode --quiet --file cellsparse-java/pom.xml -DskipTests -Dcellsparse.natives="$out/none" package
jars=()
for name in cellsparse qupath-extension-cellsparse; do
  jars+=("cellsparse-java/$name/target/$name-$version.jar")
done
"${PYTHON:-python3}" packaging/jars.py "$out/jars" "$out/natives/native" cellsparse-core/starters "${jars[@]}"
packaging/sums.sh
