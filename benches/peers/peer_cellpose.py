"""The cellpose package: its network, loss, tiles and dynamics. See README.md; normally started by run.py.

The network runs with what makes torch fastest where the package does not do so: channels last, fused optimiser, no
conversion of the network for each batch; with `--bf16` under bfloat16 autocast, with `--compile` with torch.compile.
`--package` runs it as the package's users do.
"""

import contextlib
import os
import sys

from peer_common import arguments, compare_masks, peak_mb, report, timed, torch_facts, torch_pieces

SIDES = (1024, 2048)
WARM_UP = 2
WIDTHS = [2, 32, 64, 128, 256]


def load(chosen, name):
    import numpy as np

    return np.load(os.path.join(chosen.folder, name))


def make_network(chosen, mkldnn=False):
    import torch
    from cellpose.resnet_torch import CPnet

    torch.set_num_threads(chosen.threads)
    network = CPnet(list(WIDTHS), 3, sz=3, mkldnn=mkldnn)
    state = torch.load(os.path.join(chosen.folder, "cellpose.pth"), weights_only=True)
    found = network.load_state_dict(state, strict=False)
    left = [name for name in found.missing_keys if not name.endswith("num_batches_tracked") and not name.startswith("diam_")]
    if left or found.unexpected_keys:
        sys.exit(f"cellpose.pth does not fit the package's network: {left} {found.unexpected_keys}")
    return network if chosen.package else network.to(memory_format=torch.channels_last)


def as_map(chosen, array):
    """[B, H, W, C] as a torch map in the layout of the network."""
    import torch

    values = torch.from_numpy(array).permute(0, 3, 1, 2)
    return values.contiguous() if chosen.package else values


def step(chosen):
    """The loss of the sparse-label fork: that of the package, with means over the annotated pixels of the batch."""
    import torch
    from torch.nn import functional

    network = make_network(chosen).train()
    images = as_map(chosen, load(chosen, "cellpose_images.npy"))
    targets = as_map(chosen, load(chosen, "cellpose_targets.npy"))
    base = peak_mb()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    fused = {} if chosen.package else {"fused": True}
    optimizer = torch.optim.AdamW(parameters, lr=0.005, weight_decay=1e-5, **fused)
    losses = []
    numbers, compiled = torch_pieces(chosen)

    @compiled
    def forward(images, targets):
        with numbers():
            answer = network(images)[0]
        answer = answer.float()
        annotated = (targets[:, :1] != -1).float()
        count = annotated.sum()
        flows = 0.5 * (annotated * (answer[:, :2] - 5 * targets[:, 1:]) ** 2).sum() / (2 * count)
        truth = (targets[:, :1] > 0.5).float()
        entropy = functional.binary_cross_entropy_with_logits(answer[:, 2:], truth, weight=annotated, reduction="sum")
        return flows + entropy / count

    def one():
        optimizer.zero_grad()
        loss = forward(images, targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    return {"ms": {"step": timed(chosen.steps or 10, one, warm_up=WARM_UP)}, "loss": losses, "before_mb": base}


def read_field(chosen):
    """The image that flows are made of, with the second channel that the package wants: [1, H, W, 2]."""
    import imageio.v2 as imageio
    import numpy as np

    image = imageio.imread(os.path.join(chosen.folder, "cellpose_field.png")).astype(np.float32) / 255
    return np.stack([image, np.zeros_like(image)], axis=-1)[None]


def over_tiles(chosen, network, image, base):
    """Times the package's own tiling and blending."""
    import numpy as np
    from cellpose import core

    answers = []

    def run():
        answers[:] = [core.run_net(network, image)[0]]

    times = timed(chosen.steps or 3, run)
    return {"ms": {"network": times}, "mean": float(np.abs(answers[0]).mean()), "before_mb": base}


def predict(chosen):
    """The package's own tiling and blending; but for `--package` what it does with a batch of tiles is replaced."""
    import torch
    from cellpose import core

    image = read_field(chosen)
    # As CellposeModel has it on a processor.
    network = make_network(chosen, mkldnn=chosen.package).eval()
    if not chosen.package:
        numbers, compiled = torch_pieces(chosen)
        if chosen.compile:
            import torch._inductor.config

            # Weights become constants of the compiled network, laid out for its kernels.
            torch._inductor.config.freezing = True

        @compiled
        def answer(tiles):
            with numbers():
                flows, style = network(tiles)[:2]
            return flows.float(), style.float()

        def forward(network, tiles):
            # Freezing asks for no_grad; there is nothing that inference_mode would save besides.
            with torch.no_grad() if chosen.compile else torch.inference_mode():
                return [part.numpy() for part in answer(torch.from_numpy(tiles).to(memory_format=torch.channels_last))]

        core._forward = forward
    return over_tiles(chosen, network, image, peak_mb())


def data(chosen):
    """Flows and cell probability as a network would answer them for the drawn masks."""
    import numpy as np
    from cellpose import dynamics

    random = np.random.default_rng(0)
    for side in SIDES:
        masks = load(chosen, f"masks_{side}.npy")
        flows = 5 * dynamics.masks_to_flows(masks) + random.normal(0, 0.5, (2, side, side))
        probability = np.where(masks > 0, 4.0, -4.0) + random.normal(0, 1, (side, side))
        maps = np.concatenate([flows, probability[None]]).astype(np.float32)
        np.save(os.path.join(chosen.folder, f"flows_{side}.npy"), maps)
    return {"ms": {}}


def masks(chosen):
    import numpy as np
    from cellpose import dynamics

    times, objects = {}, []
    base = peak_mb()

    def measure(name, side, work):
        answers = []
        times[f"{name}{side}"] = timed(chosen.steps or 3, lambda: answers.append(work()))
        np.save(os.path.join(chosen.folder, f"cellpose_{name}_{side}.npy"), answers[-1])
        return answers[-1]

    for side in SIDES:
        truth, maps = load(chosen, f"masks_{side}.npy"), load(chosen, f"flows_{side}.npy")
        measure("flows", side, lambda: dynamics.masks_to_flows(truth))
        for name, threshold in (("filtered", 0.4), ("unfiltered", 0.0)):
            found = measure(
                name, side,
                lambda: dynamics.resize_and_compute_masks(maps[:2], maps[2], niter=200, flow_threshold=threshold),
            )
            objects.append(int(found.max()))
    return {"ms": times, "objects": objects, "before_mb": base}


def compare(chosen):
    """How far the masks and flows that both sides left in the folder agree."""
    import numpy as np

    lines = []
    for side in SIDES:
        for name in ("filtered", "unfiltered"):
            ours, theirs = (load(chosen, f"{who}_{name}_{side}.npy") for who in ("cellsparse", "cellpose"))
            lines.append({"what": f"masks {side} {name}", **compare_masks(ours, theirs)})
        ours, theirs = (load(chosen, f"{who}_flows_{side}.npy") for who in ("cellsparse", "cellpose"))
        cells = load(chosen, f"masks_{side}.npy") > 0
        far = np.abs(ours - theirs).max(axis=0)[cells]
        lines.append({"what": f"flows {side}", "same": float((far < 1e-4).mean()), "largest": float(far.max())})
    return {"ms": {}, "agreement": lines}


def main():
    tasks = {
        "cellpose-step": step, "cellpose-predict": predict, "cellpose-masks": masks, "cellpose-data": data,
        "cellpose-compare": compare,
    }
    chosen = arguments(__doc__, list(tasks), needs="cellpose.pth", flags=("package", "bf16", "compile"))
    # The packages print progress; standard output belongs to the result.
    with contextlib.redirect_stdout(sys.stderr):
        result = tasks[chosen.task](chosen)
    from importlib.metadata import version

    import torch

    versions = {"torch": torch.__version__, "cellpose": version("cellpose")}
    report("cellpose" if chosen.package else "torch", chosen, versions, {**result, **torch_facts(chosen)})


if __name__ == "__main__":
    main()
