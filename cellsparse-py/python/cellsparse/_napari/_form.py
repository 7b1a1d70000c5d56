"""Controls of the panel and how they lie: no behaviour."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt  # type: ignore[import-not-found, attr-defined, unused-ignore]
from qtpy.QtWidgets import (  # type: ignore[import-not-found, attr-defined, unused-ignore]
    QCheckBox,
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ._curve import Curve

ALGORITHMS = (
    ("auto", "Choose for me", "Tries all three on the drawn cells, half of which are left out of each short trial."),
    ("stardist", "StarDist: roundish", "Roundish cells and nuclei of any size, also crowded ones."),
    ("cellpose", "Cellpose: any shape, one size", "Cells of any shape without holes and of one typical size."),
    ("elephant", "ELEPHANT: any shape and size", "Cells of any shape and size, also touching ones."),
)

BLUE = "#1f6fb2"


class Form:
    """The controls, by name."""

    def __init__(self, panel: Any) -> None:
        self._inner = inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 6, 8, 8)
        column.setSpacing(5)
        self._layers(column)
        self._training(column)
        self._progress(column)
        self._using(column)
        column.addStretch(1)
        area = QScrollArea(panel)
        area.setWidget(inner)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        outer = QVBoxLayout(panel)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        self._area = area

    def _layers(self, column: Any) -> None:
        rows = _section(column, "1  Draw")
        self.image = _combo("The image layer that is drawn on and segmented")
        rows.addRow(_label("Image"), self.image)
        self.channels = _combo("Which axis of the image counts channels; the sliders of the others choose the plane")
        self._channels_label = _label("Channels")
        rows.addRow(self._channels_label, self.channels)
        self.labels = _combo("The labels layer with the drawn cells; 0 means that nothing was drawn there")
        self.new_labels = _button("New", "An empty labels layer over the image")
        rows.addRow(_label("Drawn cells"), _row(self.labels, self.new_labels, stretch=(1, 0)))
        self.has_background = QCheckBox("drawn as label")
        self.has_background.setToolTip("Whether strokes of background are drawn, under a number of their own")
        self.background = QSpinBox()
        self.background.setRange(1, 2**31 - 1)
        self.background.setToolTip("The number of the background strokes")
        rows.addRow(_label("Background"), _row(self.has_background, self.background, stretch=(0, 1)))
        self.by_click = _button("Outline by click", "Click on a cell, or draw a box around it, and its outline is found by SAM")
        self.by_click.setCheckable(True)
        self.beside = QCheckBox("not this")
        self.beside.setToolTip("The next clicks are beside the cell")
        self.take = _button("Take", "Put the outline into the labels as a new cell (Enter)")
        self.weights = _button("Weights ...", "Choose a file with weights of SAM or MobileSAM, such as mobile_sam.pt")
        self.draw_cell = _button("Cell", "The brush with a number that no cell has yet")
        self.draw_background = _button("Background", "The brush with the number of the background")
        rows.addRow(_label("Brush"), _row(self.draw_cell, self.draw_background))
        rows.addRow(_label("SAM"), _row(self.by_click, self.take, stretch=(2, 1)))
        rows.addRow(_label(""), _row(self.beside, self.weights))

    def _training(self, column: Any) -> None:
        rows = _section(column, "2  Train")
        self.algorithm = _combo("The network")
        for place, (name, title, text) in enumerate(ALGORITHMS):
            self.algorithm.addItem(title, name)
            self.algorithm.setItemData(place, text, Qt.ItemDataRole.ToolTipRole)
        rows.addRow(_label("Algorithm"), self.algorithm)
        self.init = _combo("The weights of a new model")
        self.init.addItem("starting weights", "starter")
        self.init.addItem("random weights", "none")
        self.init.setItemData(0, "Learned on drawn fields: a few steps suffice", Qt.ItemDataRole.ToolTipRole)
        self.init.setItemData(1, "Everything is learned from your cells: needs minutes", Qt.ItemDataRole.ToolTipRole)
        rows.addRow(_label("Begin with"), self.init)
        self.amount = QSpinBox()
        self.amount.setRange(1, 100_000)
        self.amount.setValue(60)
        self.amount.setToolTip("How long a training takes, or how many steps it makes; it may be stopped at any time")
        self.unit = _combo("What limits the training")
        self.unit.addItem("seconds", "seconds")
        self.unit.addItem("steps", "steps")
        rows.addRow(_label("For"), _row(self.amount, self.unit))
        self.anew = QCheckBox("start anew")
        self.anew.setToolTip("Train a new model instead of the present one; another algorithm needs a new one too")
        rows.addRow(_label(""), self.anew)
        self.train = _button("Train", "Train on what is drawn, with a preview")
        self.train.setStyleSheet(f"QPushButton:enabled {{ background-color: {BLUE}; color: white; font-weight: bold; }}")
        self.stop = _button("Stop", "End after the running step and keep what was learned")
        column.addWidget(_row(self.train, self.stop, stretch=(2, 1)))

    def _progress(self, column: Any) -> None:
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.bar.setStyleSheet(
            "QProgressBar { border: none; border-radius: 3px; background-color: rgba(128, 128, 128, 70); }"
            f"QProgressBar::chunk {{ border-radius: 3px; background-color: {BLUE}; }}"
        )
        column.addWidget(self.bar)
        self.curve = Curve()
        column.addWidget(self.curve)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.status.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.status.setAlignment(Qt.AlignmentFlag.AlignTop)
        # Room for two lines, so that the buttons below stay where they are.
        self.status.setMinimumHeight(2 * self.status.fontMetrics().lineSpacing() + 2)
        column.addWidget(self.status)

    def _using(self, column: Any) -> None:
        rows = _section(column, "3  Segment")
        self.about = QLabel()
        rows.addRow(_label("Model"), self.about)
        self.predict = _button("This image", "Segment the image above; of a stack, the plane in view")
        self.predict_all = _button("All image layers", "Segment every image layer, with all planes of stacks")
        column.addWidget(_row(self.predict, self.predict_all))
        self.save = _button("Save model ...", "Write the model to a file, which the command line and Python read too")
        self.load = _button("Load model ...", "Read a model from a file")
        column.addWidget(_row(self.save, self.load))

    def minimum_width(self) -> int:
        """Of the panel, so that nothing is cut off beside the scroll bar."""
        bar: Any = self._area.verticalScrollBar()
        return int(self._inner.minimumSizeHint().width() + bar.sizeHint().width())

    def show_channels(self, shown: bool) -> None:
        """Shows or hides the row for channels."""
        self.channels.setVisible(shown)
        self._channels_label.setVisible(shown)

    def say(self, text: str, wrong: bool) -> None:
        """The sentence below the buttons."""
        self.status.setStyleSheet("color: #ff7a6b;" if wrong else "")
        if self.status.text() != text:
            self.status.setText(text)


def _section(column: Any, title: str) -> Any:
    heading = QLabel(title)
    heading.setStyleSheet("font-weight: bold; font-size: 13pt; margin-top: 4px;")
    column.addWidget(heading)
    rows = QFormLayout()
    rows.setContentsMargins(0, 0, 0, 0)
    rows.setVerticalSpacing(4)
    rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    column.addLayout(rows)
    return rows


def _label(text: str) -> Any:
    label = QLabel(text)
    # One width, so that the fields of all sections lie below each other.
    label.setMinimumWidth(label.fontMetrics().horizontalAdvance("Drawn cells") + 16)
    return label


def _combo(tip: str) -> Any:
    box = QComboBox()
    box.setToolTip(tip)
    # Long names of layers must not make the panel wide.
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(6)
    return box


def _button(text: str, tip: str) -> Any:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button


def _row(*widgets: Any, stretch: tuple[int, ...] | None = None) -> Any:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(6)
    for place, widget in enumerate(widgets):
        layout.addWidget(widget, 1 if stretch is None else stretch[place])
    return row
