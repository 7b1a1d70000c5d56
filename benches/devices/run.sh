#!/usr/bin/env bash
# On a machine with a CUDA card: runs the tests of devices on it, then the measurement, ours and PyTorch's in turn on the same card.
#
#   benches/devices/run.sh [STEPS [SIDE]]      what benches/devices/pack.sh packed must lie in .devices
#
# Prints lines of JSON; what was seen goes into docs/devices.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar --extract --xz --directory "$work" --file .devices/pack.tar.xz
libraries=$("$python" - << 'PY'
import glob, os, site
roots = site.getsitepackages() + [site.getusersitepackages()]
found = [os.path.dirname(path) for root in roots for path in glob.glob(root + "/nvidia/**/lib*.so*", recursive=True)]
print(":".join(sorted(set(found))))
PY
)
export LD_LIBRARY_PATH=$libraries:/usr/local/nvidia/lib64:/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
date -u +%F
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
echo "== tests"
CELLSPARSE_TEST_DEVICE=cuda:0 "$work/tests" device --test-threads 1
echo "== measurement"
"$work/devices" cuda:0 "$@"
"$python" benches/devices/peer.py "$@"
"$work/devices" cuda:0 "$@"
