"""A curve of the losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, Qt  # type: ignore[import-not-found, attr-defined, unused-ignore]
from qtpy.QtGui import QColor, QPainter, QPalette, QPen, QPolygonF  # type: ignore[import-not-found, attr-defined, unused-ignore]
from qtpy.QtWidgets import QWidget  # type: ignore[import-not-found, attr-defined, unused-ignore]

# Points of the curve at most; more steps are averaged.
POINTS = 200


class Curve(QWidget):  # type: ignore[misc, unused-ignore]
    """Positive values over their number, on a logarithmic axis."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(56)
        self.setToolTip("Loss over the steps, on a logarithmic axis: how far the network is from what was drawn")
        self._values = np.zeros(0)

    def show_values(self, values: Sequence[float]) -> None:
        """Draws these values."""
        taken = np.asarray(values, float)
        taken = taken[np.isfinite(taken) & (taken > 0)]
        if len(taken) > POINTS:
            taken = np.array([part.mean() for part in np.array_split(taken, POINTS)])
        self._values = np.log10(taken)
        self.update()

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        frame = QColor(text)
        frame.setAlpha(60)
        painter.setPen(QPen(frame, 1))
        area = self.rect().adjusted(0, 0, -1, -1)
        painter.drawRoundedRect(area, 3, 3)
        values = self._values
        if len(values) < 2:
            painter.setPen(frame)
            painter.drawText(area, Qt.AlignmentFlag.AlignCenter, "loss")
            painter.end()
            return
        low, high = float(values.min()), float(values.max())
        width, height = area.width() - 12, area.height() - 12
        x = 6 + width * np.arange(len(values)) / (len(values) - 1)
        y = 6 + height * (high - values) / max(high - low, 1e-6)
        painter.setPen(QPen(QColor("#3ba7ff"), 1.6))
        painter.drawPolyline(QPolygonF([QPointF(float(a), float(b)) for a, b in zip(x, y)]))
        painter.end()
