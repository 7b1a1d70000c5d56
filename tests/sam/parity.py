#!/usr/bin/env python3
"""Compares masks of cellsparse with those of the original packages, on random weights in the real configurations.

    tests/sam/parity.py PROGRAM [vit_b] [vit_l] [vit_h] [vit_t] [--record]

PROGRAM is the example `sam` of cellsparse-core. The models are made by `segment_anything` (vit_b, vit_l, vit_h) and
`mobile_sam` (vit_t) with seeded random weights, saved by PyTorch as their checkpoints are, and given images and prompts by
`SamPredictor`. Logits of the network, logits at the pixels of the image and scores must agree to 1e-3. Default: vit_b and
vit_t, 1.3 GB of memory and 0.5 GB in a temporary folder.

--record writes tests/fixtures/sam anew: weights and masks of a network of the same parts that is much smaller.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

warnings.filterwarnings("ignore", category=FutureWarning)

TOLERANCE = 1e-3
FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "sam"


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Random numbers for every weight and statistic, such that signals keep their size from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    norms = {
        name
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.LayerNorm, torch.nn.BatchNorm2d)) or type(module).__name__ == "LayerNorm2d"
    }
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if not value.is_floating_point() or name in ("pixel_mean", "pixel_std"):
                continue
            noise = torch.randn(value.shape, generator=generator)
            owner, _, part = name.rpartition(".")
            if part == "running_var":
                value.copy_(1 + 0.5 * torch.rand(value.shape, generator=generator))
            elif owner in norms:
                value.copy_((1 if part == "weight" else 0) + 0.2 * noise)
            elif part == "bias" or part == "attention_biases":
                value.copy_(0.2 * noise)
            elif "rel_pos" in part or part == "pos_embed":
                value.copy_(0.3 * noise)
            elif "embed" in name or "token" in owner.rpartition(".")[2] or "gaussian" in name:
                value.copy_(noise)
            else:
                rows = value.shape[0] if "output_upscaling" in name else value[0].numel()
                value.copy_(noise * (1.5 / rows) ** 0.5)
    # TinyViT keeps a table that is made of its weights when it is told that it will not learn any more.
    model.train()
    model.eval()


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Bright discs on a gradient with noise, in colour."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([40 + 60 * x / width, 50 + 40 * y / height, np.full(x.shape, 70.0)], axis=2)
    for _ in range(25):
        centre, radius = random.random(2) * (height, width), random.uniform(0.02, 0.08) * max(height, width)
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        image[inside] += random.uniform(20, 120, size=3)
    return np.clip(image + random.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def prompts(height: int, width: int) -> list[dict]:
    """A point, several points with some outside, a box, a box with points."""
    return [
        {"points": [[0.3 * width, 0.6 * height, 1]], "box": None},
        {
            "points": [[0.5 * width, 0.5 * height, 1], [0.55 * width, 0.52 * height, 1], [0.1 * width, 0.2 * height, 0],
                       [0.9 * width, 0.7 * height, 0]],
            "box": None,
        },
        {"points": [], "box": [0.2 * width, 0.3 * height, 0.45 * width, 0.6 * height]},
        {
            "points": [[0.7 * width, 0.4 * height, 1], [0.62 * width, 0.31 * height, 0]],
            "box": [0.6 * width, 0.3 * height, 0.8 * width, 0.5 * height],
        },
    ]


def answers(package, model, image: np.ndarray, asked: list[dict]) -> list[dict[str, np.ndarray]]:
    """What the original says: the four masks of its network, their scores, and the chosen one at the pixels of the image."""
    predictor = package.SamPredictor(model)
    began = time.perf_counter()
    predictor.set_image(image)
    print(f"  original: encoded in {time.perf_counter() - began:.2f} s")
    found = []
    for prompt in asked:
        points = np.array(prompt["points"]) if prompt["points"] else None
        given = {
            "point_coords": None if points is None else points[:, :2],
            "point_labels": None if points is None else points[:, 2],
            "box": None if prompt["box"] is None else np.array(prompt["box"]),
            "return_logits": True,
        }
        single = predictor.predict(**given, multimask_output=False)
        three = predictor.predict(**given, multimask_output=True)
        full, scores, low = (np.concatenate(pair) for pair in zip(single, three))
        alone = points is not None and len(points) == 1 and prompt["box"] is None
        best = 1 + int(np.argmax(scores[1:])) if alone else 0
        found.append({"low": low, "scores": scores, "best": np.array([best], np.float32), "logits": full[best]})
    return found


def ours(program: str, weights: pathlib.Path, image: np.ndarray, asked: list[dict], folder: pathlib.Path) -> dict:
    Image.fromarray(image).save(folder / "image.png")
    (folder / "prompts.json").write_text(json.dumps(asked))
    arguments = [program, weights, folder / "image.png", folder / "prompts.json", folder / "out.safetensors"]
    run = subprocess.run(arguments, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{program} failed: {run.stderr}")
    print("".join(f"  cellsparse: {line}\n" for line in run.stdout.splitlines()), end="")
    return load_file(folder / "out.safetensors")


def compare(found: dict, wanted: list[dict[str, np.ndarray]]) -> float:
    """The largest difference."""
    worst = 0.0
    for place, want in enumerate(wanted):
        told = []
        for part, array in want.items():
            got = found[f"{place}/{part}"]
            assert got.shape == array.shape, (place, part, got.shape, array.shape)
            difference = float(np.abs(got.astype(np.float64) - array).max())
            worst = max(worst, difference)
            told.append(f"{part} {difference:.1e}")
        size = float(np.abs(want["low"]).max())
        inside = 100 * float((want["logits"] > 0).mean())
        print(f"  prompt {place}: differences {', '.join(told)}; logits up to {size:.2f}, {inside:.0f} % inside")
    return worst


def real(kind: str, program: str) -> float:
    if kind == "vit_t":
        import mobile_sam as package
    else:
        import segment_anything as package
    print(f"{kind}: {package.__name__}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        model = package.sam_model_registry[kind]()
        randomise(model, 7)
        weights = folder / f"{kind}.pth"
        torch.save(model.state_dict(), weights)
        worst = 0.0
        # Reduced in one direction after the other, enlarged, and of the size of the network.
        for place, (height, width) in enumerate([(1536, 1200), (300, 431), (1024, 1024)][: 3 if kind in ("vit_b", "vit_t") else 1]):
            print(f" {width} x {height}")
            image = picture(height, width, place)
            asked = prompts(height, width)
            worst = max(worst, compare(ours(program, weights, image, asked, folder), answers(package, model, image, asked)))
    return worst


def small():
    """SAM of the same parts as the real one, with an image of 96 pixels."""
    from functools import partial

    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    width, size, patch = 32, 96, 8
    side = size // patch
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=size, patch_size=patch, embed_dim=24, depth=3, num_heads=3, mlp_ratio=2, out_chans=width, qkv_bias=True,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), use_rel_pos=True, window_size=5, global_attn_indexes=[1],
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=width, image_embedding_size=(side, side), input_image_size=(size, size), mask_in_chans=4
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3, transformer_dim=width, iou_head_depth=3, iou_head_hidden_dim=16,
            transformer=TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=48, num_heads=8),
        ),
    )


def record(program: str) -> float:
    import segment_anything as package

    print(f"a small network: {package.__name__}")
    model = small()
    randomise(model, 3)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(value.half().float())
    model.eval()
    FIXTURES.mkdir(exist_ok=True)
    state = {name: value.numpy().astype(np.float16) for name, value in model.state_dict().items()}
    info = {"segment_anything": "1.0", "torch": torch.__version__, "seed": 3}
    save_file(state, FIXTURES / "small_weights.safetensors", {"info": json.dumps(info)})
    image = picture(70, 130, 5)
    asked = prompts(70, 130)
    wanted = answers(package, model, image, asked)
    arrays = {f"{place}/{part}": value for place, want in enumerate(wanted) for part, value in want.items()}
    arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items() if not name.endswith("/low")}
    # The logits of the network in half of the bytes; the ones at the pixels of the image are whole.
    arrays |= {f"{place}/low": np.ascontiguousarray(want["low"][:, ::2, ::2], np.float32) for place, want in enumerate(wanted)}
    arrays["image"] = image.astype(np.float32)
    save_file(arrays, FIXTURES / "small_masks.safetensors", {"info": json.dumps(info | {"prompts": asked})})
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        weights = FIXTURES / "small_weights.safetensors"
        return compare(ours(program, weights, image, asked, folder), wanted)


def main() -> None:
    arguments = sys.argv[1:]
    kinds = [argument for argument in arguments[1:] if argument.startswith("vit_")]
    if not arguments or set(arguments[1:]) - set(kinds) - {"--record"}:
        sys.exit(__doc__)
    torch.set_num_threads(min(torch.get_num_threads(), 16))
    if "--record" in arguments:
        differences = {"small": record(arguments[0])}
    else:
        differences = {kind: real(kind, arguments[0]) for kind in kinds or ["vit_b", "vit_t"]}
    print(", ".join(f"{kind} {worst:.1e}" for kind, worst in differences.items()), f"(allowed {TOLERANCE:.0e})")
    sys.exit(max(differences.values()) > TOLERANCE)


if __name__ == "__main__":
    main()
