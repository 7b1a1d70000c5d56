#!/usr/bin/env bash
# The outline that roifile gives of a region of ImageJ is another one than ImageJ's, without a word, where the region has a fitted
# spline or rounded corners.
#
# A polygon after *Edit > Selection > Fit Spline* is saved as its nodes and an option bit; ImageJ draws, fills and measures the
# curve through them. `ImagejRoi.coordinates()` of roifile 2026.2.10 returns the nodes: of the four nodes below, which ImageJ
# 1.54p saved, a polygon with the area of 600 pixels, where ImageJ fills 919. roifile knows the bit (`ROI_OPTIONS.SPLINE_FIT`) and the diameter of
# rounded corners (`rounded_rect_arc_size`: 300 pixels, where ImageJ fills 288), and says nothing of either. Who turns regions into
# masks with it has to look at both. The regions and ImageJ's pixels are made anew by
# `tests/fixtures/annotations/imagej154/ImageJRegions.java`.
#
# Seen with Python 3.11: "2026.2.10 spline 600 of 919, rounded rectangle 300 of 288".
# Exit status 0: as described. 1: something else was seen.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check roifile==2026.2.10
cat > "$folder/check.py" <<'PY'
import base64
import importlib.metadata

import roifile

spline = "SW91dADkAAAAAwAGACYAKgAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAgQAAAAAAAAAAAAAAcAADACEAFwAFAAYABAAfAB1BIAAAQiAAAEHwAABBQAAAQSAAAEEAAABCDAAAQgQAAAAAAAAAAAAAAAAAAAAAAAAAAACwAAAABgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAcwBwAGwAaQBuAGU="
rectangle = "SW91dADkAQAABgAFABUAGQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAgAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAAAAAACAAAAAEQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAcgBvAHUAbgBkAGUAZAAgAHIAZQBjAHQAYQBuAGcAbABl"


def area(text):
    points = roifile.ImagejRoi.frombytes(base64.b64decode(text)).coordinates().tolist()
    pairs = zip(points, points[1:] + points[:1])
    return abs(sum(x * v - u * y for (x, y), (u, v) in pairs)) / 2


version = importlib.metadata.version("roifile")
print(f"{version} spline {area(spline):.0f} of 919, rounded rectangle {area(rectangle):.0f} of 288")
PY
seen=$("$folder/venv/bin/python" "$folder/check.py")
echo "$seen"
[ "$seen" = "2026.2.10 spline 600 of 919, rounded rectangle 300 of 288" ]
