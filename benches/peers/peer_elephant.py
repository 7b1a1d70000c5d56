"""The ELEPHANT network, its loss and Adam in plain torch. See README.md; normally started by run.py.

Torch's usual layout was quicker than channels last (`--last`), whose group normalisation is slow. `--bf16` computes the
network under bfloat16 autocast, `--compile` compiles forward pass, loss and gradients with torch.compile.
"""

import math
import os
import sys

from peer_common import arguments, peak_mb, report, timed, torch_facts, torch_pieces

WIDTHS = (16, 32, 64, 128, 256)
WARM_UP = 3


def new_network():
    from torch import cat, nn
    from torch.nn import functional

    def block(inputs, outputs):
        parts = []
        for channels in (inputs, outputs):
            parts += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(inplace=True), nn.GroupNorm(min(32, outputs), outputs)]
        return nn.Sequential(*parts)

    class Elephant(nn.Module):
        def __init__(self):
            super().__init__()
            levels = WIDTHS[:-1]
            self.encoder = nn.ModuleList(block(i, o) for i, o in zip((1, *levels), levels))
            self.base = block(*WIDTHS[-2:])
            self.decoder = nn.ModuleList(block(i + o, o) for i, o in zip(WIDTHS[:0:-1], levels[::-1]))
            self.out_conv = nn.Conv2d(WIDTHS[0], 3, 1)

        def forward(self, x):
            skips = []
            for part in self.encoder:
                x = part(x)
                skips.append(x)
                x = functional.max_pool2d(x, 2)
            x = self.base(x)
            for part, skip in zip(self.decoder, reversed(skips)):
                x = part(cat([skip, functional.interpolate(x, scale_factor=2, mode="nearest")], 1))
            return functional.log_softmax(self.out_conv(x), 1)

    return Elephant()


def make_network(chosen):
    import torch

    torch.set_num_threads(chosen.threads)
    network = new_network()
    network.load_state_dict(torch.load(os.path.join(chosen.folder, "elephant.pth"), weights_only=True))
    return network.to(memory_format=torch.channels_last if chosen.last else torch.contiguous_format)


def make_loss():
    """The loss of a training: it remembers the Dice loss of the batch before."""
    import torch

    pure = make_pure_loss()
    before = torch.zeros(())

    def loss(logs, targets):
        nonlocal before
        value, before = pure(logs, targets, before)
        return value

    return loss


def make_pure_loss():
    """1/7 cross-entropy, 5/7 Dice of the centre, 1/7 smoothness; each is the mean over the samples with labels.

    As the batch is known to have labels in every sample, this is written for all samples together; a sample without a
    centre counts with the Dice loss of the batch before, which the loss takes and gives.
    """
    import torch
    from torch.nn import functional

    taps = torch.tensor([math.exp(-k * k / 128) for k in range(-2, 3)])
    kernel = torch.outer(taps, taps)[None, None] / taps.sum() ** 2
    weights = torch.tensor([1.0, 10.0, 10.0])

    def loss(logs, targets, before):
        labelled = targets >= 0
        classes = targets.clamp(min=0)
        weight = weights[classes] * labelled
        picked = logs.gather(1, classes[:, None])[:, 0]
        entropy = (-(weight * picked).sum((1, 2)) / weight.sum((1, 2))).mean()
        center = logs[:, 2].exp()
        truth = (targets == 2).float()
        both, squares = (labelled * center * truth).sum((1, 2)), (labelled * center**2).sum((1, 2)) + truth.sum((1, 2))
        dice = 1 - 2 * both / squares.clamp(min=1e-6)
        dice = torch.where(truth.sum((1, 2)) > 0, dice, before).mean()
        map = center[:, None]
        small = functional.conv2d(map, kernel, stride=2, padding=2)
        smooth = functional.conv2d(functional.interpolate(small, size=map.shape[2:], mode="nearest"), kernel, padding=2)
        return (entropy + 5 * dice + (map - smooth).abs().mean()) / 7, dice.detach()

    return loss


def step(chosen):
    import numpy as np
    import torch

    network = make_network(chosen)
    images = torch.from_numpy(np.load(os.path.join(chosen.folder, "elephant_images.npy")))[:, None]
    targets = torch.from_numpy(np.load(os.path.join(chosen.folder, "elephant_targets.npy"))).long()
    if not bool((targets >= 0).flatten(1).any(1).all()) or int(targets.max()) > 2:
        sys.exit("the loss here is written for batches with a labelled pixel in every sample, and for light labels")
    base = peak_mb()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    loss_of = make_pure_loss()
    losses = []
    numbers, compiled = torch_pieces(chosen)

    @compiled
    def forward(images, targets, before):
        with numbers():
            logs = network(images)
        return loss_of(logs.float(), targets, before)

    before = torch.zeros(())

    def one():
        nonlocal before
        optimizer.zero_grad(set_to_none=True)
        loss, before = forward(images, targets, before)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    return {"ms": {"step": timed(chosen.steps or 10, one, warm_up=WARM_UP)}, "loss": losses, "before_mb": base}


def main():
    chosen = arguments(__doc__, ["elephant-step"], needs="elephant.pth", flags=("last", "bf16", "compile"))
    result = step(chosen)
    import torch

    report("torch", chosen, {"torch": torch.__version__}, {**result, **torch_facts(chosen)})


if __name__ == "__main__":
    main()
