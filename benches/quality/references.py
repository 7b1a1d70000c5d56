#!/usr/bin/env python3
"""AP of the originals against seconds of training, from one image with strokes: what `quality DATA scribble` is set beside.

usage: references.py DATA {stardist,cellpose,elephant} [--seconds 15,30,60,120,180] [--seed 0] [--threads 2]

Needs the environment of benches/peers/setup.sh. DATA holds dsb2018 and dsb2018-mini. Settings are those that the
original QuPath extension sends (batches of 8 patches of 224 x 224, intensities from minimum and maximum), but that
Cellpose learns at 0.02 after ten batches of ramp: at the rate it is sent, 0, it learns nothing.

- stardist: the package with TensorFlow, grid (2, 2), Adam at 0.001, prob 0.5 and nms 0.4.
- cellpose: network, augmentation and dynamics of the package at full width; the loss of its fork for sparse labels (means
  over annotated pixels), SGD with momentum 0.9. Pixels outside the image are not counted as background, as the fork does:
  that helps it.
- elephant: network, loss, crops and ellipses in PyTorch, NumPy and scikit-image from their description, as its own package
  needs a server. Adam at 0.001, centre probability 0.8.

The clock runs while batches are made and learned from, and stands still while the siblings are segmented and scored
(`matching_dataset` of StarDist, IoU 0.5, holes of the truth filled).
"""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "peers"))

from peer_common import limit_threads, read_scaled  # noqa: E402

ONE = "00071198"
BATCH, PATCH, LEARNING_RATE = 8, 224, 1e-3
CELLPOSE_RATE, RAMP, DIAMETER = 0.02, 10, 30.0


class Clock:
    """Calls `segment(image)` for every sibling whenever a budget is used up, and prints a row of the table."""

    def __init__(self, name, seed, budgets, siblings, segment):
        self.name, self.seed, self.budgets, self.siblings, self.segment = name, seed, sorted(budgets), siblings, segment
        self.batches, self.spent, self.since = 0, 0.0, time.perf_counter()

    def batch_done(self):
        """Whether there is a budget left."""
        self.batches += 1
        self.spent += time.perf_counter() - self.since
        while self.budgets and self.spent >= self.budgets[0]:
            self.score(self.budgets.pop(0))
        self.since = time.perf_counter()
        return bool(self.budgets)

    def score(self, budget):
        from stardist.matching import matching_dataset

        truth, images = zip(*self.siblings)
        found = [self.segment(image) for image in images]
        score = matching_dataset(truth, found, thresh=0.5, show_progress=False)
        print(
            f"| {self.name} | {self.seed} | {budget:g} | {self.batches} | {1e3 * self.spent / self.batches:.0f} | "
            f"{score.tp} / {score.fp} / {score.fn} | {score.accuracy:.3f} | {score.panoptic_quality:.3f} |",
            file=sys.__stdout__, flush=True,
        )


def read_labels(path):
    import imageio.v2 as imageio
    import numpy as np

    return np.asarray(imageio.imread(path)).astype(np.int32)


def case(data):
    """The image, its labels (-1 unlabelled, 0 background, cells from 1), and the siblings as truth and image."""
    from stardist import fill_label_holes

    mini = data / "dsb2018-mini" / "train"
    image = next((mini / "images").glob(f"{ONE}*"))
    labels = read_labels(mini / "sparse" / "scribble" / image.name) - 1
    siblings = []
    for name in (data / f"dsb2018/siblings_{ONE}.txt").read_text().split():
        stem = Path(name).stem
        path = next(path for split in ("train", "test") for path in (data / "dsb2018" / split / "images").glob("*") if stem.endswith(path.stem))
        siblings.append((fill_label_holes(read_labels(path.parent.parent / "masks" / path.name)), read_scaled(path)))
    return read_scaled(image), labels, siblings


def stardist(image, labels, clock_of, seed):
    import tensorflow as tf
    from peer_tensorflow import augment, make_model

    threads = int(os.environ["OMP_NUM_THREADS"])
    tf.random.set_seed(seed)
    model = make_model(threads)
    clock = clock_of(lambda image: model.predict_instances(image, prob_thresh=0.5, nms_thresh=0.4)[0])

    class Watch(tf.keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if not clock.batch_done():
                self.model.stop_training = True

    model.prepare_for_training()
    model.callbacks.append(Watch())
    clock.since = time.perf_counter()
    model.train(
        [image], [labels], validation_data=([image], [labels]), augmenter=augment, seed=seed, epochs=1, steps_per_epoch=1_000_000,
    )


def cellpose(image, labels, clock_of, seed):
    import numpy as np
    import torch
    from cellpose import core, dynamics, transforms, utils
    from cellpose.resnet_torch import CPnet
    from peer_cellpose import WIDTHS
    from torch.nn import functional

    torch.manual_seed(seed)
    np.random.seed(seed)
    network = CPnet(list(WIDTHS), 3, sz=3)
    drawn = np.maximum(labels, 0)
    diameter = utils.diameters(drawn)[0]
    # 0 is outside or unlabelled, 1 background, 2 cell.
    state = (labels >= 0).astype(np.float32) + (labels > 0)
    targets = np.concatenate([state[None], dynamics.masks_to_flows(drawn)]).astype(np.float32)
    pixels = np.stack([image, np.zeros_like(image)])
    optimizer = torch.optim.SGD(network.parameters(), lr=CELLPOSE_RATE, momentum=0.9, weight_decay=1e-4)

    def segment(image):
        factor = DIAMETER / diameter
        size = [round(side * factor) for side in image.shape]
        scaled = transforms.resize_image(np.stack([image, np.zeros_like(image)], -1), *size)
        network.eval()
        maps = core.run_net(network, scaled[None].astype(np.float32))[0][0]
        network.train()
        maps = transforms.resize_image(maps, *image.shape)
        flows, probability = maps[..., :2].transpose(2, 0, 1), maps[..., 2]
        return dynamics.resize_and_compute_masks(flows, probability, niter=int(200 / factor), flow_threshold=0.4).astype(np.int32)

    clock = clock_of(segment)
    network.train()
    going = True
    while going:
        optimizer.param_groups[0]["lr"] = CELLPOSE_RATE * min(1.0, (clock.batches + 1) / RAMP)
        images, wanted, _ = transforms.random_rotate_and_resize(
            [pixels] * BATCH, Y=[targets] * BATCH, rescale=np.full(BATCH, diameter / DIAMETER), scale_range=0.5, xy=(PATCH, PATCH),
        )
        images, wanted = torch.from_numpy(images), torch.from_numpy(wanted)
        annotated = (wanted[:, :1] > 0).float()
        count = annotated.sum().clamp(min=1)
        optimizer.zero_grad()
        answer = network(images)[0]
        flows = 0.5 * (annotated * (answer[:, :2] - 5 * wanted[:, 1:]) ** 2).sum() / (2 * count)
        truth = (wanted[:, :1] > 1.5).float()
        loss = flows + functional.binary_cross_entropy_with_logits(answer[:, 2:], truth, weight=annotated, reduction="sum") / count
        loss.backward()
        optimizer.step()
        going = clock.batch_done()


def elephant(image, labels, clock_of, seed):
    import numpy as np
    import torch
    from peer_elephant import make_loss, new_network
    from torch.nn import functional

    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    network = new_network()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            torch.nn.init.zeros_(module.bias)
    classes = elephant_classes(labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    loss_of = make_loss()

    def segment(image):
        with torch.no_grad():
            values = torch.from_numpy(image)[None, None]
            size = [-(-side // 16) * 16 for side in image.shape]
            logs = network(functional.interpolate(values, size=size, mode="bilinear", align_corners=True))
            logs = functional.interpolate(logs, size=image.shape, mode="bilinear", align_corners=True)
        return elephant_objects(logs[0, 2].exp().numpy())

    clock = clock_of(segment)
    going = True
    while going:
        crops = [elephant_crop(image, classes, random) for _ in range(BATCH)]
        images = torch.from_numpy(np.stack([crop for crop, _ in crops]))[:, None]
        targets = torch.from_numpy(np.stack([target for _, target in crops])).long()
        optimizer.zero_grad()
        loss_of(network(images), targets).backward()
        optimizer.step()
        going = clock.batch_done()


def ellipse(centre, radii, axes, shape):
    """The normalised squared distance of every pixel from the centre of an ellipse; below 1 inside."""
    import numpy as np

    offsets = np.indices(shape).reshape(2, -1).T - centre
    return (((offsets @ axes) / radii) ** 2).sum(1).reshape(shape)


def moments(pixels):
    """Centre, radii and axes of the ellipse with the moments of some pixels; None for a line."""
    import numpy as np

    centre = pixels.mean(0)
    squares, axes = np.linalg.eigh(np.cov(pixels.T, bias=True)) if len(pixels) > 1 else (np.zeros(2), None)
    return None if squares.min() <= 1e-9 else (centre, 2 * np.sqrt(squares), axes)


def elephant_classes(labels, ratio=0.5, smallest=9):
    """-1 unlabelled, 0 background, 1 border, 2 centre."""
    import numpy as np
    from scipy import ndimage

    classes = np.where(labels == 0, 0, -1)
    for cell in range(1, labels.max() + 1):
        shape = moments(np.argwhere(labels == cell)) if (labels == cell).any() else None
        if shape is None:
            continue
        centre, radii, axes = shape

        def grown(radii):
            inside = ellipse(centre, radii, axes, labels.shape) < 1
            return inside if inside.sum() >= smallest else grown(radii * 1.1)

        outer, inner = grown(radii), grown(radii * ratio)
        classes[outer & (classes < 1)] = 1
        classes[ndimage.binary_dilation(inner, np.ones((3, 3)))] = 1
        classes[inner] = 2
    return classes


def elephant_crop(image, classes, random):
    """A crop of PATCH pixels around a labelled one: contrast of the drawn cells, rotation up to 45 degrees, flips."""
    import numpy as np
    from skimage.transform import resize, rotate

    labelled = np.argwhere(classes >= 0)
    while True:
        angle = int(random.integers(-45, 46))
        turned = np.deg2rad(angle)
        origin, size = [], []
        base = labelled[random.integers(len(labelled))]
        for axis, side in enumerate(image.shape):
            crop = min(PATCH, side)
            wanted = random.integers(min(side, round(0.8 * crop)), min(side + 1, int(1.2 * crop) + 1))
            wanted = min(side, int(np.ceil(wanted * (abs(np.cos(turned)) + abs(np.sin(turned))))))
            size.append(wanted)
            origin.append(random.integers(max(0, base[axis] - wanted + 1), min(side - wanted, base[axis]) + 1))
        window = tuple(slice(begin, begin + length) for begin, length in zip(origin, size))
        pixels, target = image[window].copy(), classes[window]
        cells, ground = target > 0, target == 0
        if cells.any() and ground.any():
            light, dark = pixels[cells].mean(), pixels[ground].mean()
            pixels[cells] *= ((light - dark) * random.uniform(0.5, 1) + dark) / light
        pixels = rotate(pixels, angle, resize=True, order=1, preserve_range=True)
        target = rotate(target + 1, angle, resize=True, order=0, preserve_range=True).round() - 1
        middle = tuple(slice(max(0, (side - PATCH) // 2), max(0, (side - PATCH) // 2) + PATCH) for side in pixels.shape)
        pixels, target = pixels[middle], target[middle]
        if (target >= 0).any():
            break
    if pixels.shape != (PATCH, PATCH):
        pixels = resize(pixels, (PATCH, PATCH), order=1, preserve_range=True)
        target = resize(target, (PATCH, PATCH), order=0, preserve_range=True, anti_aliasing=False)
    for axis in (1, 0):
        if random.uniform() < 0.5:
            pixels, target = np.flip(pixels, axis), np.flip(target, axis)
    return pixels.astype(np.float32), target.astype(np.int64)


def elephant_objects(centre_probability, ratio=0.5, threshold=0.8, largest=100):
    import numpy as np
    from scipy import ndimage

    shape = centre_probability.shape
    parts, count = ndimage.label(centre_probability > threshold, np.ones((3, 3)))
    best, labels = np.zeros(shape), np.zeros(shape, np.int32)
    found = 0
    for part in range(1, count + 1):
        pixels = np.argwhere(parts == part)
        side = np.ptp(pixels, axis=0) + 1
        stretched = moments(pixels * (side + 1) / side)
        if stretched is None:
            continue
        found += 1
        centre = pixels.mean(0)
        rho = np.sqrt(ellipse(centre, np.minimum(stretched[1] / ratio, largest), stretched[2], shape))
        # The rings of the original: nearer to a centre wins, of equals the last.
        level = np.ceil(20 * (1 - rho)).clip(0, 16)
        labels[level >= np.maximum(best, 1)] = found
        best = np.maximum(best, level)
        labels[tuple(centre.astype(int))] = found
    return labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    trainers = {"stardist": stardist, "cellpose": cellpose, "elephant": elephant}
    parser.add_argument("algorithm", choices=trainers)
    parser.add_argument("--seconds", default="15,30,60,120,180")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    limit_threads(chosen.threads)
    if chosen.algorithm != "stardist":
        import torch

        torch.set_num_threads(chosen.threads)
    print("| original | seed | seconds | batches | ms/batch | tp / fp / fn | AP50 | PQ |\n|---|---|---|---|---|---|---|---|", flush=True)
    # The packages print progress; standard output belongs to the table.
    with contextlib.redirect_stdout(sys.stderr):
        image, labels, siblings = case(chosen.data)
        budgets = [float(seconds) for seconds in chosen.seconds.split(",")]
        trainers[chosen.algorithm](
            image, labels, lambda segment: Clock(chosen.algorithm, chosen.seed, budgets, siblings, segment), chosen.seed
        )


if __name__ == "__main__":
    main()
