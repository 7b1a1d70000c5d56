#!/usr/bin/env bash
# Makes the virtual environment that holds the pinned peers, or adds to it what is missing.
#
# usage: benches/peers/setup.sh [tensorflow] [torch] [cellpose] [onnx] [postprocess] [sam] [bioimageio]      default: all but the last two
#
# The environment is target/peers/.venv, or $PEERS_VENV. Everything comes from PyPI by name, for Python 3.11
# ($PYTHON). On Linux the torch of PyPI is the CUDA one: its libraries (about 4 GB on the disk) are needed to import
# it even where there is no GPU. Several minutes and 6.5 GB in all are normal. `torch.compile` also needs g++.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=${PEERS_VENV:-$root/target/peers/.venv}
python=${PYTHON:-python3.11}
constraints=$(mktemp)
trap 'rm -f "$constraints"' EXIT

# The versions that are compared; setup of any group never moves another one.
cat > "$constraints" <<'PINS'
numpy==1.26.4
tensorflow-cpu==2.15.1
stardist==0.9.2
csbdeep==0.8.2
torch==2.15.0
cellpose==3.1.1.3
onnxruntime==1.32.0
openvino==2026.4.1
scikit-image==0.26.0
scipy==1.17.1
torchvision==0.29.2
timm==0.9.16
safetensors==0.8.0
pillow==13.0.0
segment-anything==1.0
mobilesam-mirror==1.0.0
bioimageio.core==0.5.11
PINS

if [ ! -x "$venv/bin/python" ]; then
    echo "setup: making $venv"
    command -v "$python" > /dev/null || { echo "setup: no $python; install Python 3.11 or set PYTHON" >&2; exit 1; }
    "$python" -m venv "$venv"
fi
found=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$found" != 3.11 ]; then
    echo "setup: $venv has Python $found; tensorflow-cpu 2.15.1 is pinned for 3.11. Remove it or set PEERS_VENV" >&2
    exit 1
fi

# add GROUP MODULES PACKAGES...: installs the packages unless all of them are there, then imports the modules.
add() {
    local group=$1 modules=$2
    shift 2
    if "$venv/bin/python" - "$constraints" "$@" <<'PY'
import sys
from importlib.metadata import PackageNotFoundError, version
pins = dict(line.strip().split("==") for line in open(sys.argv[1]))
try:
    missing = [name for name in sys.argv[2:] if version(name) != pins[name]]
except PackageNotFoundError as error:
    missing = [error.name]
sys.exit(bool(missing))
PY
    then
        echo "setup: $group is there"
    else
        echo "setup: installing $group ($*)"
        "$venv/bin/python" -m pip install --disable-pip-version-check --constraint "$constraints" "$@"
    fi
    echo "setup: importing $modules"
    TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= "$venv/bin/python" -c "import $modules"
}

if [ $# -eq 0 ]; then
    set -- tensorflow torch cellpose onnx postprocess
fi
for group in "$@"; do
    case $group in
        tensorflow) add tensorflow 'tensorflow, stardist.models' tensorflow-cpu stardist csbdeep numpy ;;
        torch) add torch 'numpy, torch' torch numpy ;;
        cellpose) add cellpose 'cellpose.models' cellpose torch numpy ;;
        onnx) add onnx 'onnxruntime, openvino' onnxruntime openvino numpy ;;
        postprocess) add postprocess 'skimage.segmentation, scipy.ndimage' scikit-image scipy numpy ;;
        # The package of MobileSAM's authors is not on PyPI; this one is a copy of it.
        sam)
            add sam 'segment_anything, mobile_sam, safetensors.numpy' \
                segment-anything mobilesam-mirror timm torchvision torch pillow safetensors numpy ;;
        # What stardist 0.9.2 writes packages with: later versions have no `build_spec`.
        bioimageio) add bioimageio 'stardist.bioimageio_utils, bioimageio.core.build_spec' bioimageio.core stardist tensorflow-cpu numpy ;;
        *) echo "setup: unknown group '$group'; the groups are tensorflow, torch, cellpose, onnx, postprocess, sam and bioimageio" >&2; exit 1 ;;
    esac
done
# A compiler for GPUs, 1 GB, which torch does without on processors.
if "$venv/bin/python" -c 'from importlib.metadata import version; version("triton")' 2> /dev/null; then
    "$venv/bin/python" -m pip uninstall --disable-pip-version-check --yes --quiet triton
fi
echo "setup: ready, $venv"
