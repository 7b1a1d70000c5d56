"""From `pip install` to the first segmentation: cellsparse beside StarDist and Cellpose, measured in the same way.

    python benches/install/first_segmentation.py cellsparse=path/to/cellsparse.whl stardist cellpose [--cpu-torch]

For each program: a fresh virtual environment, `pip install` without pip's cache, the size of what was installed and of the
program's own wheel, the time of importing its model class (median of five fresh interpreters, after one that warms the file
cache), and the time of a first program that trains two steps from random weights on a drawn image and segments it. Cellsparse
must be given as a wheel of the release build; the others come from the registry. Nothing is downloaded but packages, so all
three begin with random weights.

Prints one JSON object. Environments are made in a temporary folder and removed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

# One image with some discs; the same for all.
DRAW = """
import numpy as np
rows, columns = np.indices((256, 256))
labels = np.zeros((256, 256), np.int32)
for k in range(36):
    y, x = 20 + 43 * (k // 6), 20 + 43 * (k % 6)
    labels[(rows - y) ** 2 + (columns - x) ** 2 < 120] = k + 1
noise = np.random.default_rng(0).normal(0, 8, labels.shape)
image = (40 + 120 * (labels > 0) + noise).clip(0, 255).astype(np.uint8)
"""

FIRST = {
    "cellsparse": """
        import cellsparse as cs
        model = cs.StarDist()
        model.train([image], [labels], steps=2, patch_size=224, batch_size=4, progress=False)
        found, objects = model.predict(image)
        """,
    "stardist": """
        from csbdeep.utils import normalize
        from stardist.models import Config2D, StarDist2D
        config = Config2D(grid=(2, 2), train_patch_size=(224, 224), train_batch_size=4, train_epochs=1,
                          train_steps_per_epoch=2, train_tensorboard=False)
        model = StarDist2D(config, name="first", basedir="models")
        x = normalize(image)
        model.train([x], [labels], validation_data=([x], [labels]), augmenter=None)
        found, details = model.predict_instances(x)
        """,
    "cellpose": """
        from cellpose import models, train
        model = models.CellposeModel(gpu=False, pretrained_model=False)
        train.train_seg(model.net, train_data=[image], train_labels=[labels], channels=[0, 0], n_epochs=1, batch_size=4,
                        nimg_per_epoch=8, normalize=True, save_path=".", model_name="first")
        found, flows, styles = model.eval(image, channels=[0, 0], diameter=23)
        """,
}
PACKAGES = {
    "stardist": ["stardist==0.9.2", "tensorflow-cpu==2.15.1", "numpy<2"],
    "cellpose": ["cellpose==3.1.1.3"],
}
# The class of the model is named, because `import cellsparse` alone loads neither NumPy nor the native library.
IMPORTS = {
    "cellsparse": "from cellsparse import StarDist",
    "stardist": "from stardist.models import StarDist2D",
    "cellpose": "from cellpose.models import CellposeModel",
}


def run(*command: object, **options: object) -> float:
    """Runs a program and returns its seconds."""
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return time.perf_counter() - start


def size(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def measure(name: str, wheel: str | None, cpu_torch: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "environment"
        run(sys.executable, "-m", "venv", environment)
        python = environment / "bin" / "python"
        before = size(environment)
        packages = [wheel] if wheel else PACKAGES[name]
        extra = ["--extra-index-url", "https://download.pytorch.org/whl/cpu"] if cpu_torch and name == "cellpose" else []
        install = run(python, "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", *extra, *packages)
        installed = size(environment) - before
        quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        first = Path(folder) / "first.py"
        first.write_text(DRAW + textwrap.dedent(FIRST[name]) + "\nassert found.shape == image.shape\n")
        segmentation = run(python, first, cwd=folder, env=quiet)
        importing = f"import time; s = time.perf_counter(); {IMPORTS[name]}; print(time.perf_counter() - s)"
        times = []
        for _ in range(5):
            done = subprocess.run(
                [str(python), "-c", importing], capture_output=True, text=True, env=quiet, cwd=folder, check=True
            )
            times.append(float(done.stdout.split()[-1]))
        return {
            "wheel_MB": round(Path(wheel).stat().st_size / 1e6, 2) if wheel else None,
            "installed_MB": round(installed / 1e6),
            "pip_install_s": round(install, 1),
            "import_s": round(statistics.median(times), 3),
            "first_segmentation_s": round(segmentation, 1),
            "from_pip_install_to_first_segmentation_s": round(install + segmentation, 1),
        }


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    results = {}
    for argument in arguments:
        name, _, wheel = argument.partition("=")
        if name not in FIRST or (name == "cellsparse") != bool(wheel):
            sys.exit(f"{argument}: give cellsparse=WHEEL, stardist or cellpose")
        results[name] = measure(name, str(Path(wheel).resolve()) if wheel else None, "--cpu-torch" in sys.argv)
        print(name, results[name], file=sys.stderr)
    print(json.dumps({"python": sys.version.split()[0], "cores": os.cpu_count(), **results}, indent=2))


if __name__ == "__main__":
    main()
