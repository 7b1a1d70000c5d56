"""Pieces of HTML for notebooks."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray


def table(title: str, facts: Iterable[tuple[str, str]]) -> str:
    """A small table of names and values."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in facts
    )
    return f'<table style="display:inline-table;vertical-align:top"><caption>{escape(title)}</caption>{rows}</table>'


def curve(steps: NDArray[Any], values: NDArray[Any], width: int = 320, height: int = 120) -> str:
    """A curve of positive values on a logarithmic axis, as SVG."""
    good = np.isfinite(values) & (values > 0)
    if good.sum() < 2:
        return ""
    x, y = np.asarray(steps[good], float), np.log10(np.asarray(values[good], float))
    if len(x) > 400:
        places = np.linspace(0, len(x) - 1, 400).astype(int)
        x, y = x[places], y[places]
    x = 4 + (width - 8) * (x - x.min()) / max(float(np.ptp(x)), 1e-9)
    y = 4 + (height - 8) * (y.max() - y) / max(float(np.ptp(y)), 1e-9)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y))
    return (
        f'<svg width="{width}" height="{height}" style="border:1px solid #8884;margin-left:8px" role="img">'
        f"<title>loss (logarithmic) over steps</title>"
        f'<polyline points="{points}" fill="none" stroke="#0072b2" stroke-width="1.5"/></svg>'
    )


def picture(pixels: NDArray[np.uint8]) -> str:
    """An RGB image `[H, W, 3]` as an element with the file inside."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    text = base64.b64encode(data).decode()
    return f'<img width="{width}" height="{height}" src="data:image/png;base64,{text}"/>'
