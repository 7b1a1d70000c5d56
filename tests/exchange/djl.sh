#!/usr/bin/env bash
# Gives the ONNX files of `runtimes.sh` to the Deep Java Library, by which QuPath runs them.
#
#   tests/exchange/djl.sh PROGRAM      PROGRAM is the command `cellsparse`
#   DJL=0.24.0 tests/exchange/djl.sh PROGRAM      another version than that of djl/pom.xml
#
# Needs a JDK (17 or later) and Maven; DJL and onnxruntime (140 MB) come from Maven Central into target/bioimageio.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${DJL:-$(sed -n 's:.*<djl.version>\(.*\)</djl.version>.*:\1:p' "$here/djl/pom.xml")}
home=$here/../../target/bioimageio/djl-$version
if [ ! -e "$home/ready" ]; then
  rm -rf "$home"
  mvn --batch-mode --quiet --file "$here/djl/pom.xml" -Ddjl.version="$version" -DoutputDirectory="$(realpath -m "$home")" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies
  touch "$home/ready"
fi
javac --release 17 -Xlint:all -Werror -cp "$home/*" -d "$home/classes" "$here/djl/Answers.java"
export CELLSPARSE_DJL=$home/classes:$home/*
exec "$here/runtimes.sh" "$1" DJL
