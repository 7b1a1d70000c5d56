#!/bin/sh
# Rust's compiler, as Cargo calls it for the packages of this repository (RUSTC_WORKSPACE_WRAPPER) where all is compiled to take the C
# library of musl from the process: programs, and nothing else, are linked with one of their own. By flags for everything, programs
# and libraries would share nothing, and all would be compiled twice.
case " $* " in
  *" --crate-type bin "*-linux-musl*) set -- "$@" -C target-feature=+crt-static ;;
esac
exec "$@"
