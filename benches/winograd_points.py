#!/usr/bin/env python3
"""How far products of 16-bit factors (bfloat16) put the results of Winograd's F(4x4, 3x3) apart, by its points of interpolation.

Prints, for the points 0, +-a, +-b and infinity, the root mean square of the differences over the spread of the results: of a convolution of
random maps (32 channels, after ReLU) with random weights, and of the gradient of the weights. Needs NumPy.

    python benches/winograd_points.py
"""

import numpy as np

CHANNELS, OUTPUTS, TILES = 32, 8, 300


def bfloat16(values):
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32)
    return rounded.view(np.float32).astype(np.float64)


def transforms(a, b):
    """A^T (4 x 6), G (6 x 3) and B^T (6 x 6) by Toom and Cook."""
    points = [0, a, -a, b, -b]
    outputs, weights, inputs = np.zeros((4, 6)), np.zeros((6, 3)), np.zeros((6, 6))
    for i, point in enumerate(points):
        others = [other for other in points if other != point]
        outputs[:, i] = [point**k for k in range(4)]
        weights[i] = [point**k / np.prod([point - other for other in others]) for k in range(3)]
        inputs[i, :5] = np.poly(others)[::-1]
    outputs[3, 5] = weights[5, 2] = 1
    inputs[5] = np.poly(points)[::-1]
    return outputs, weights, inputs


def spread(found, exact):
    return np.sqrt(((found - exact) ** 2).mean()) / exact.std()


def apart(a, b):
    random = np.random.default_rng(0)
    outputs, weights, inputs = transforms(a, b)
    x = np.maximum(random.standard_normal((TILES, 6, 6, CHANNELS)), 0)
    w = random.standard_normal((3, 3, CHANNELS, OUTPUTS))
    g = random.standard_normal((TILES, 4, 4, OUTPUTS))
    transformed = np.einsum("ai,tijc,bj->tabc", inputs, x, inputs)
    factors = np.einsum("ai,ijco,bj->abco", weights, w, weights)
    gradients = np.einsum("ya,tyxo,xb->tabo", outputs, g, outputs)

    def results(round_):
        products = np.einsum("tabc,abco->tabo", round_(transformed), round_(factors))
        sums = np.einsum("tabc,tabo->abco", round_(transformed), round_(gradients))
        return (
            np.einsum("ya,tabo,xb->tyxo", outputs, products, outputs),
            np.einsum("ai,abco,bj->ijco", weights, sums, weights),
        )

    return [spread(found, exact) for found, exact in zip(results(bfloat16), results(lambda values: values))]


def main():
    tried = [(1, 2), *((a, b) for a in np.arange(0.5, 0.85, 0.0625) for b in np.arange(1.125, 1.9, 0.125))]
    found = {points: apart(*points) for points in tried}
    print("points      results  gradient of the weights")
    for points in [(1, 2), *sorted(tried[1:], key=lambda points: sum(value**2 for value in found[points]))[:5]]:
        print("{:<6} {:<5} {:.4f}   {:.4f}".format(*points, *found[points]))
    print(f"of {len(tried) - 1} pairs and the usual one")


if __name__ == "__main__":
    main()
