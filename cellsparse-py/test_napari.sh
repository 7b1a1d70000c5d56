#!/usr/bin/env bash
# Runs the tests of the napari plugin in a virtual environment of its own under target/python, with fixed versions. Arguments
# go to pytest; `--picture FILE` before them makes the picture of docs/napari.md. PYTHON names the interpreter, WHEEL a built
# wheel of this checkout; without it, one is built as test.sh does.
#
# Where xvfb-run or a display is there, the windows are drawn; otherwise Qt's `offscreen` platform has no OpenGL, and all
# but the drawing is tested.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$PWD/target/python
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "error: $("$python" --version) is too old for this napari; name Python 3.11 or later with PYTHON=..." >&2
  exit 1
}

picture=""
if [ "${1:-}" = --picture ]; then
  picture=$(realpath "$2")
  shift 2
fi

environment=$work/napari
wanted="napari==0.9.2 PyQt6==6.11.0 PyQt6-Qt6==6.11.2 qtpy==2.4.3 superqt==0.9.0 magicgui==0.10.2 npe2==0.10.0 vispy==0.17.0
  app-model==0.5.1 psygnal==0.16.1 pydantic==2.14.4 numpy==2.4.6 pytest==9.2.0 pytest-qt==4.5.0 safetensors==0.8.0 pillow==13.0.0 maturin>=1.9.4,<2"
# Large downloads: what is there already is used again.
if [ "$(cat "$environment/wanted" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "${environment:?}"
  "$python" -m venv "$environment"
  # shellcheck disable=SC2086
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check $wanted
  echo "$wanted" > "$environment/wanted"
fi

if [ -z "${WHEEL:-}" ]; then
  rm -rf "${work:?}/napari-wheel"
  PATH="$environment/bin:$PATH" "$environment/bin/maturin" build --quiet --manifest-path cellsparse-py/Cargo.toml \
    --profile dev --features cellsparse-core/default,sam --out "$work/napari-wheel"
  WHEEL=$(ls "$work"/napari-wheel/cellsparse-*.whl)
fi
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$WHEEL"
"$environment/bin/python" -m pip check
"$environment/bin/npe2" validate cellsparse

settings=$(mktemp -d)
trap 'rm -rf "$settings"' EXIT
export NAPARI_CONFIG=$settings/settings.yaml
display=()
if [ -z "${DISPLAY:-}" ] && command -v xvfb-run > /dev/null; then
  display=(xvfb-run --auto-servernum --server-args "-screen 0 1600x1200x24")
elif [ -z "${DISPLAY:-}" ] && [ "$(uname)" = Linux ]; then
  echo "note: neither a display nor xvfb-run is there: nothing is drawn in these tests"
  export QT_QPA_PLATFORM=offscreen
fi

cd cellsparse-py
if [ -n "$picture" ]; then
  CELLSPARSE_NAPARI_PICTURE=$picture "${display[@]}" "$environment/bin/python" -m pytest -p no:cacheprovider -W ignore::DeprecationWarning \
    tests/test_napari.py -k picture
  exit
fi
"${display[@]}" "$environment/bin/python" -m pytest -p no:cacheprovider -W ignore::DeprecationWarning \
  tests/test_napari.py "$@"
