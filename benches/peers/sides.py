"""Who is compared in which task, and the command of each: this crate and its peers in every configuration.

Standard library only; used by run.py and kernels.py.
"""

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent

GROUPS = {
    "stardist": ("step", "predict", "train200", "cold"),
    "cellpose": ("cellpose-step", "cellpose-narrow", "cellpose-predict", "cellpose-masks"),
    "elephant": ("elephant-step",),
    "postprocess": ("postprocess",),
}
TASKS = tuple(task for tasks in GROUPS.values() for task in tasks)
# The tasks that `--rivals` measures unless others are named.
RIVAL_TASKS = ("step", "predict", "cellpose-step", "cellpose-predict", "elephant-step")

# Keeps torch and TensorFlow (oneDNN), and this crate, to 256-bit vectors.
AVX2 = {"CELLSPARSE_SIMD": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


@dataclass(frozen=True)
class Side:
    """One program in one configuration."""

    name: str
    tasks: tuple
    # Of the numbers that convolutions multiply.
    bits: int = 32
    # The script of a peer for each group; none for this crate.
    scripts: dict = field(default_factory=dict)
    flags: tuple = ()
    environment: dict = field(default_factory=dict)

    @property
    def ours(self):
        return not self.scripts

    @property
    def compiled(self):
        return "--compile" in self.flags

    def command(self, task, chosen, binary):
        """The command that measures this task. `chosen` has `data`, `threads`, `venv` and the numbers of runs."""
        if self.ours:
            head = [str(binary), task, str(chosen.data)]
        else:
            head = [str(Path(chosen.venv) / "bin" / "python"), str(HERE / self.scripts[group_of(task)]), task, str(chosen.data)]
        kind = task.rpartition("-")[2]
        count = {"predict": chosen.repeats, "masks": chosen.repeats, "train200": chosen.train_steps, "cold": None}
        count = count.get(kind, chosen.steps)
        return [*head, *self.flags, "--threads", str(chosen.threads), *(["--steps", str(count)] if count else [])]

    def surroundings(self, chosen):
        """The environment of the process. What torch compiles is kept beside the virtual environment."""
        cache = {"TORCHINDUCTOR_CACHE_DIR": str(Path(chosen.venv).parent / "inductor")} if self.compiled else {}
        return {**os.environ, **cache, **self.environment, **(AVX2 if chosen.avx2 else {})}


def group_of(task):
    return next(group for group, tasks in GROUPS.items() if task in tasks)


def all_sides():
    everything = tuple(task for task in TASKS if task != "postprocess")
    ours = [Side("cellsparse", everything), Side("cellsparse-bf16", everything, 16, flags=("--precision", "bf16"))]
    if platform.machine() in ("x86_64", "AMD64"):
        ours.append(Side("cellsparse-avx2", everything, environment={"CELLSPARSE_SIMD": "avx2"}))

    keras = {"stardist": "peer_tensorflow.py"}
    peers = [
        Side("tensorflow", GROUPS["stardist"], scripts=keras),
        Side("tensorflow-bf16", ("step", "predict"), 16, keras, ("--bf16",)),
    ]
    torch = {"stardist": "peer_torch.py", "cellpose": "peer_cellpose.py", "elephant": "peer_elephant.py"}
    for name, bits, flags in (
        ("torch", 32, ()), ("torch-compiled", 32, ("--compile",)),
        ("torch-bf16", 16, ("--bf16",)), ("torch-bf16-compiled", 16, ("--bf16", "--compile")),
    ):
        tasks = RIVAL_TASKS if flags else (*RIVAL_TASKS, "cold")
        peers.append(Side(name, tasks, bits, torch, flags))
    package = ("cellpose-step", "cellpose-predict", "cellpose-masks", "cellpose-data", "cellpose-compare")
    peers.append(Side("cellpose", package, scripts={"cellpose": "peer_cellpose.py"}, flags=("--package",)))
    onnx = {"stardist": "peer_onnx.py", "cellpose": "peer_onnx.py"}
    for name, bits, flags in (
        ("onnxruntime", 32, ("--runtime", "onnxruntime")), ("openvino", 32, ("--runtime", "openvino")),
        ("openvino-bf16", 16, ("--runtime", "openvino", "--bf16")),
    ):
        peers.append(Side(name, ("predict", "cellpose-predict"), bits, onnx, flags))
    return ours, peers


OURS, PEERS = ({side.name: side for side in sides} for sides in all_sides())
# Those of the tables that are not about rivals.
USUAL = ("cellsparse", "tensorflow", "torch", "cellpose")


def can_be_kept_to_avx2(side):
    """Those whose vectors the environment above sets. 16-bit products have no instructions there."""
    if side.ours:
        return side.name == "cellsparse"
    return side.bits == 32 and "peer_onnx.py" not in side.scripts.values()
