#!/usr/bin/env bash
# Runs the first program of docs/java.md with a jar: trains, predicts, writes outlines. Each virtual machine has to find as many objects
# as the first one; on another system the mathematical functions of its C library may move single corners of outlines.
#
#   packaging/try_jar.sh JAR JAVA ...
#
# JAR may be a folder with jars, of which the one for all platforms is taken. A JAVA is a command, such as java, "wine java.exe" or
# "qemu-aarch64 -L ... java".
#
# Needs javac of a JDK. The library is copied to a folder whose name is not ASCII.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: packaging/try_jar.sh JAR JAVA ..." >&2 && exit 2; }
jar=$(realpath "$1")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ ! -d "$jar" ] || jar=$jar/cellsparse-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1).jar
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export LC_ALL=C.UTF-8
sed -n '/^```java$/,/^```$/p' docs/java.md | sed '/^```/d' > "$folder/First.java"
javac --release 17 -cp "$jar" -d "$folder" "$folder/First.java"
cd "$folder"
status=0
for java in "$@"; do
  read -ra command <<< "$java"
  separator=:
  case $java in *.exe*) separator=';' ;; esac
  version=$("${command[@]}" -version 2>&1 | tr -d '\r' | sed -n 's/.*version "\([^"]*\)".*/\1/p' | head -n 1)
  began=$SECONDS
  if "${command[@]}" -Djava.awt.headless=true "-Dcellsparse.cache.path=$folder/größe 細胞" -cp "$jar$separator$folder" First > out 2> err; then
    tr -d '\r' < out > result
    [ -e first ] || cp result first
    same="the same outlines as the first"
    if [ "$(grep -c '^object' result)" != "$(grep -c '^object' first)" ]; then
      same="wrong: not as many as the first" status=1
    elif ! cmp -s result first; then
      same="other corners of outlines than the first"
    fi
    echo "Java $version: $(grep -c '^object' result) objects, $(grep -c '^step' err) steps, $((SECONDS - began)) s, $same ($java)"
  else
    echo "Java $version: wrong: $(tail -n 3 err) ($java)"
    status=1
  fi
done
exit "$status"
