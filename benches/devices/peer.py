"""The three reference networks in plain PyTorch on a CUDA device: training steps and forward passes, as lines of JSON.

usage: python3 peer.py [STEPS [SIDE]]

Channels last, with TF32 or bfloat16 autocast, each with and without torch.compile. Batches of 8 x 224 x 224 pixels, which lie on the
device beforehand; losses and Adam as in cellsparse (foreach and fused where torch has it). `predict` is a forward pass
over tiles of 1024 x 1024 pixels that cover an image of SIDE x SIDE, without post-processing.
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

BATCH, PATCH, TILE = 8, 224, 1024


class StarDist(nn.Module):
    """A U-Net of 3 levels with 32 filters after a level at full resolution, 128 features, 32 rays, on a grid of 2."""

    def __init__(self):
        super().__init__()
        pairs, now = [], 1

        def conv(out, extra=0):
            nonlocal now
            pairs.append((now + extra, out))
            now = out

        conv(32), conv(32)
        for level in range(3):
            conv(32 << level), conv(32 << level)
        conv(256), conv(128)
        for level in reversed(range(3)):
            conv(32 << level, 32 << level), conv(32 << max(0, level - 1))
        conv(128)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairs)
        self.prob, self.dist = nn.Conv2d(128, 1, 1), nn.Conv2d(128, 32, 1)

    def forward(self, x):
        convs = iter(self.convs)

        def block(x):
            for _ in range(2):
                x = F.relu(next(convs)(x), inplace=True)
            return x

        x = F.max_pool2d(block(x), 2)
        skips = []
        for _ in range(3):
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = block(x)
        for skip in reversed(skips):
            x = block(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip], 1))
        x = F.relu(next(convs)(x), inplace=True)
        return torch.cat([self.prob(x), self.dist(x)], 1)

    @staticmethod
    def targets(device):
        side = PATCH // 2
        prob = (torch.rand(BATCH, 1, side, side, device=device) > 0.5).float()
        return [prob, 10 * torch.rand(BATCH, 32, side, side, device=device)]

    @staticmethod
    def loss(output, prob, dist):
        logit, rays = output[:, :1], output[:, 1:]
        error = (prob * (dist - rays).abs()).mean() / prob.mean()
        return F.binary_cross_entropy_with_logits(logit, prob) + 0.2 * (error + 1e-4 * ((1 - prob) * rays.abs()).mean())


class Cellpose(nn.Module):
    """The residual U-Net of Cellpose with a style, widths 32, 64, 128, 256."""

    class Normed(nn.Module):
        def __init__(self, i, o, k=3, act=True, style=0):
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(i, eps=1e-5, momentum=0.05), nn.Conv2d(i, o, k, padding=k // 2)
            self.full, self.act = (nn.Linear(style, i) if style else None), act

        def forward(self, x, style=None, plus=None):
            if self.full is not None:
                x = x + self.full(style)[:, :, None, None]
            x = self.norm(x)
            y = self.conv(F.relu(x, inplace=True) if self.act else x)
            return y if plus is None else y + plus

    class Down(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.proj = Cellpose.Normed(i, o, 1, act=False)
            self.convs = nn.ModuleList(Cellpose.Normed(i if k == 0 else o, o) for k in range(4))

        def forward(self, x):
            half = self.convs[1](self.convs[0](x), plus=self.proj(x))
            return self.convs[3](self.convs[2](half), plus=half)

    class Up(nn.Module):
        def __init__(self, i, o, style):
            super().__init__()
            self.proj = Cellpose.Normed(i, o, 1, act=False)
            self.convs = nn.ModuleList(Cellpose.Normed(i if k == 0 else o, o, style=style if k else 0) for k in range(4))

        def forward(self, x, skip, style):
            first = self.convs[0](x, plus=skip)
            half = self.convs[1](first, style, plus=self.proj(x))
            return self.convs[3](self.convs[2](half, style), style, plus=half)

    def __init__(self, widths=(32, 64, 128, 256)):
        super().__init__()
        self.downs = nn.ModuleList(Cellpose.Down(i, o) for i, o in zip((1, *widths), widths))
        self.ups = nn.ModuleList(
            Cellpose.Up(i, o, widths[-1]) for i, o in zip((*widths[1:], widths[-1])[::-1], widths[::-1])
        )
        self.out = Cellpose.Normed(widths[0], 3, 1)

    def forward(self, x):
        skips = []
        for level, down in enumerate(self.downs):
            x = down(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        style = F.normalize(x.mean((2, 3)))
        for level, (up, skip) in enumerate(zip(self.ups, reversed(skips))):
            x = up(F.interpolate(x, scale_factor=2, mode="nearest") if level else x, skip, style)
        return self.out(x)

    @staticmethod
    def targets(device):
        return [torch.randn(BATCH, 2, PATCH, PATCH, device=device),
                (torch.rand(BATCH, PATCH, PATCH, device=device) > 0.5).float()]

    @staticmethod
    def loss(output, flows, cells):
        return 0.5 * F.mse_loss(output[:, :2], 5 * flows) + F.binary_cross_entropy_with_logits(output[:, 2], cells)


class Elephant(nn.Module):
    """The U-Net of elephant-core, widths 16, 32, 64, 128, 256, group normalisation after every activation."""

    @staticmethod
    def block(i, o):
        layers = []
        for k in range(2):
            layers += [nn.Conv2d(o if k else i, o, 3, padding=1), nn.ReLU(inplace=True), nn.GroupNorm(min(32, o), o)]
        return nn.Sequential(*layers)

    def __init__(self, widths=(16, 32, 64, 128, 256)):
        super().__init__()
        self.encoder = nn.ModuleList(self.block(i, o) for i, o in zip((1, *widths), widths))
        self.decoder = nn.ModuleList(self.block(i + o, o) for i, o in list(zip(widths[1:], widths))[::-1])
        self.out = nn.Conv2d(widths[0], 3, 1)

    def forward(self, x):
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for block, skip in zip(self.decoder, skips[-2::-1]):
            x = block(torch.cat([skip, F.interpolate(x, scale_factor=2, mode="nearest")], 1))
        return self.out(x)

    @staticmethod
    def targets(device):
        return [torch.randint(0, 3, (BATCH, PATCH, PATCH), device=device)]

    @staticmethod
    def loss(output, classes):
        center = output.softmax(1)[:, 2]
        truth = (classes == 2).float()
        dice = 1 - 2 * (center * truth).sum((1, 2)) / (center.square().sum((1, 2)) + truth.sum((1, 2)))
        blurred = F.avg_pool2d(center[:, None], 5, stride=1, padding=2)[:, 0]
        return (F.cross_entropy(output, classes) + 5 * dice.mean() + (center - blurred).abs().mean()) / 7


def measure(kind, bits16, compiled, steps, side):
    device = torch.device("cuda")
    torch.manual_seed(0)
    began = time.perf_counter()
    network = kind().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, eps=1e-7, fused=True)
    x = torch.rand(BATCH, 1, PATCH, PATCH, device=device).to(memory_format=torch.channels_last)
    targets = kind.targets(device)

    def loss():
        with torch.autocast("cuda", torch.bfloat16, enabled=bits16):
            output = network(x)
        return kind.loss(output.float(), *targets)

    work = torch.compile(loss) if compiled else loss
    half = began
    for index in range(steps):
        if index == steps // 2:
            torch.cuda.synchronize()
            half = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        work().backward()
        optimizer.step()
    torch.cuda.synchronize()
    end = time.perf_counter()
    step = 1e3 * (end - half) / (steps - steps // 2)
    network.eval()
    tiles = max(1, side // TILE) ** 2
    tile = torch.rand(1, 1, TILE, TILE).pin_memory()
    run = torch.compile(network) if compiled else network
    best = float("inf")
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=bits16):
        for _ in range(4):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(tiles):
                run(tile.to(device, non_blocking=True).to(memory_format=torch.channels_last)).float().cpu()
            best = min(best, time.perf_counter() - begin)
    return {"first": round(end - began, 3), "step": round(step, 2), "predict": round(best, 3)}


def main():
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    side = int(sys.argv[2]) if len(sys.argv) > 2 else 4096
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    for kind in (StarDist, Cellpose, Elephant):
        for bits16 in (False, True):
            for compiled in (False, True):
                row = {"program": f"torch {torch.__version__}", "network": kind.__name__.lower(),
                       "device": torch.cuda.get_device_name(), "precision": "bf16" if bits16 else "tf32", "compile": compiled}
                try:
                    row.update(measure(kind, bits16, compiled, steps, side))
                except Exception as error:  # a compiler may be missing; the others are still worth a line
                    row["error"] = str(error).splitlines()[0]
                print(json.dumps(row), flush=True)


main()
