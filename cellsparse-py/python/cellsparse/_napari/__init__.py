"""The plugin for napari: draw cells, train, see, correct. `pip install cellsparse[napari]`, then `Layers > Segment` in napari.

It calls nothing of this package but its public functions. napari finds it by the manifest `napari.yaml` beside this file.

- `_layers.py`: from layers to arrays and back, without Qt;
- `_jobs.py`: a training or a prediction in a thread, and what of it can be seen from outside;
- `_widget.py`: the panel; `_curve.py`: its curve of losses;
- `_sample.py`: a drawn field under `File > Open Sample`.
"""
