"""The StarDist network in plain torch, channels last. See README.md; normally started by run.py.

`--bf16` computes the network under bfloat16 autocast, `--compile` with torch.compile: forward pass, loss and gradients, or
the network with its weights as constants.
"""

import os
import time

from peer_common import (
    BEGIN, DEPTH, FEATURES, FILTERS, LEARNING_RATE, RAYS, WARM_UP, arguments, load_batch, load_weights, peak_mb,
    read_scaled, report, timed, torch_facts, torch_pieces,
)


def channels():
    """(in, out) of the 3x3 convolutions in the order of the network: grid, down, middle, up, features."""
    pairs = [(1, FILTERS), (FILTERS, FILTERS)]
    now = FILTERS

    def conv(out, extra=0):
        nonlocal now
        pairs.append((now + extra, out))
        now = out

    for level in range(DEPTH):
        conv(FILTERS << level)
        conv(FILTERS << level)
    conv(FILTERS << DEPTH)
    conv(FILTERS << (DEPTH - 1))
    for level in reversed(range(DEPTH)):
        conv(FILTERS << level, extra=FILTERS << level)
        conv(FILTERS << max(0, level - 1))
    conv(FEATURES)
    return pairs


def make_network(threads, folder):
    """The network with the stored weights. It returns the logit of the object probability and the ray lengths."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(threads)

    class StarDist(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in channels())
            self.prob = nn.Conv2d(FEATURES, 1, 1)
            self.dist = nn.Conv2d(FEATURES, RAYS, 1)

        def forward(self, x):
            convs = iter(self.convs)

            def block(x):
                for _ in range(2):
                    x = functional.relu(next(convs)(x), inplace=True)
                return x

            x = functional.max_pool2d(block(x), 2)
            skips = []
            for _ in range(DEPTH):
                x = block(x)
                skips.append(x)
                x = functional.max_pool2d(x, 2)
            x = block(x)
            for skip in reversed(skips):
                x = block(torch.cat([functional.interpolate(x, scale_factor=2, mode="nearest"), skip], 1))
            x = functional.relu(next(convs)(x), inplace=True)
            return self.prob(x), self.dist(x)

    network = StarDist()
    layers = [*network.convs, network.prob, network.dist]
    shapes = []
    for layer in layers:
        shapes += [(*layer.kernel_size, layer.in_channels, layer.out_channels), (layer.out_channels,)]
    stored = iter(load_weights(folder, shapes))
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(torch.from_numpy(next(stored)).permute(3, 2, 0, 1))
            layer.bias.copy_(torch.from_numpy(next(stored)))
    return network.to(memory_format=torch.channels_last)


def as_map(array):
    """[B, H, W, C] as a torch map, which keeps the memory as it is: channels last."""
    import torch

    return torch.from_numpy(array).permute(0, 3, 1, 2)


def loss_of(logit, rays, prob, dist, mask):
    """Cross-entropy on the labelled pixels, and 0.2 times the masked error of the rays with its background term."""
    from torch.nn import functional

    labelled = (prob >= 0).float()
    entropy = functional.binary_cross_entropy_with_logits(logit, prob.clamp(min=0), weight=labelled, reduction="sum")
    error = (mask * (dist - rays).abs().mean(1, keepdim=True)).mean() / (mask.mean() + 1e-7)
    background = ((1 - mask) * rays.abs().mean(1, keepdim=True)).mean()
    return entropy / labelled.sum().clamp(min=1) + 0.2 * (error + 1e-4 * background)


def step(chosen):
    import torch

    images, *targets = (as_map(array) for array in load_batch(chosen.folder))
    network = make_network(chosen.threads, chosen.folder)
    base = peak_mb()
    # Torch adds eps after the bias correction and Keras before: same cost, but losses agree for the first step only.
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, eps=1e-7, fused=True)
    losses = []
    numbers, compiled = torch_pieces(chosen)

    @compiled
    def forward(images, prob, dist, mask):
        with numbers():
            logit, rays = network(images)
        return loss_of(logit.float(), rays.float(), prob, dist, mask)

    def one():
        optimizer.zero_grad(set_to_none=True)
        loss = forward(images, *targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    return {"ms": {"step": timed(chosen.steps or 10, one, warm_up=WARM_UP)}, "loss": losses, "before_mb": base}


def make_infer(chosen, network):
    """A function from an image to the object probability and the ray lengths."""
    import torch

    numbers, compiled = torch_pieces(chosen)
    if chosen.compile:
        import torch._inductor.config

        # Weights become constants of the compiled network, laid out for its kernels.
        torch._inductor.config.freezing = True
    network.eval()

    @compiled
    def forward(batch):
        with numbers():
            logit, rays = network(batch)
        return torch.sigmoid(logit.float()), rays.float()

    def infer(image):
        # Freezing asks for no_grad; there is nothing that inference_mode would save besides.
        with torch.no_grad() if chosen.compile else torch.inference_mode():
            return [answer.numpy() for answer in forward(as_map(image[None, ..., None]))]

    return infer


def predict(chosen):
    import numpy as np

    image = read_scaled(os.path.join(chosen.folder, "field.png"))
    network = make_network(chosen.threads, chosen.folder)
    base = peak_mb()
    infer = make_infer(chosen, network)
    rays = []

    def one():
        rays[:] = infer(image)[1:]

    times = timed(chosen.steps or 5, one)
    return {"ms": {"network": times}, "mean": float(np.abs(rays[0]).mean()), "before_mb": base}


def cold(chosen):
    network = make_network(chosen.threads, chosen.folder)
    make_infer(chosen, network)(read_scaled(os.path.join(chosen.folder, "images", "00.png")))
    return {"ms": {"cold": [1e3 * (time.perf_counter() - BEGIN)]}}


def main():
    tasks = {"step": step, "predict": predict, "cold": cold}
    chosen = arguments(__doc__, list(tasks), flags=("bf16", "compile"))
    result = tasks[chosen.task](chosen)
    import torch

    report("torch", chosen, {"torch": torch.__version__}, {**result, **torch_facts(chosen)})


if __name__ == "__main__":
    main()
