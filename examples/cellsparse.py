# %% [markdown]
# # Segment cells from a handful of annotations
#
# Draw a few cells and a few strokes of background, train for a minute, segment the rest. Everything that is not drawn is
# *unknown*, not background, so nobody has to draw every cell of an image.
#
# This notebook needs `pip install cellsparse[plot]` and draws its own microscope images, so it runs anywhere, without a
# download. Use your own images by replacing the second cell.

# %%
import json
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display

import cellsparse as cs

plt.rcParams.update({"figure.dpi": 80, "font.size": 10, "axes.titlesize": 11, "image.cmap": "gray"})
STEPS = int(os.environ.get("CELLSPARSE_NOTEBOOK_STEPS", 400))  # fewer in the tests

# %% [markdown]
# ## Images and annotations
#
# `cs.synthetic.field` draws fluorescent nuclei with their true labels and annotates six of them. Real data come from files:
#
# ```python
# images = [cs.read_image(path) for path in sorted(Path("images").glob("*.tif"))]
# labels = [cs.read_labels(path, "wire") for path in sorted(Path("labels").glob("*.png"))]
# ```
#
# `wire` is what QuPath writes for cellsparse: 0 unlabelled, 1 background, 2 and up cells. In memory labels are signed:
# **-1 unlabelled, 0 background, 1 and up cells**. Any NumPy dtype will do, and images may differ in size.

# %%
fields = [cs.synthetic.field(seed=seed) for seed in range(1, 4)]
images = [field.image for field in fields]
labels = [field.annotation for field in fields]
unseen = [cs.synthetic.field(seed=seed) for seed in range(11, 14)]

figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
for ax, image, annotation in zip(axes, images, labels):
    cs.plot.overlay(image, annotation, ax=ax)
    share = (annotation >= 0).mean()
    ax.set_title(f"{len(np.unique(annotation[annotation > 0]))} cells drawn, {share:.0%} of the pixels labelled")

# %% [markdown]
# Orange cells are drawn, blue is background, the rest is left open. A cell can be added with NumPy alone, here as an
# ellipse around one that was left out:

# %%
missing = next(k for k in np.unique(fields[0].truth)[1:] if k not in labels[0])
y, x = np.nonzero(fields[0].truth == missing)
rows, columns = np.indices(labels[0].shape)
ellipse = ((rows - y.mean()) / (1.9 * y.std())) ** 2 + ((columns - x.mean()) / (1.9 * x.std())) ** 2 <= 1
labels[0] = np.where(ellipse & (fields[0].truth == missing), labels[0].max() + 1, labels[0])

# %% [markdown]
# ## Train, and watch the loss
#
# `callback` is called after every step; returning `False` would stop the training and keep what was learned, and so does
# the stop button. Without a callback a progress bar is shown (`progress=True`). Without `steps`, `batch_size` and `patch_size`
# a training has twice as many steps.

# %%
model = cs.StarDist(seed=1)

figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
handle = display(figure, display_id=True)
losses = []


def show(event):
    losses.append(event.loss)
    if event.step % 20 == 0 or event.step == event.total_steps:
        ax.clear()
        ax.semilogy(range(1, len(losses) + 1), losses, color="black", linewidth=1.2)
        ax.set(xlabel="step", ylabel="loss", xlim=(1, event.total_steps))
        ax.set_title(f"step {event.step} of {event.total_steps}, about {event.remaining:.0f} s left", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
        handle.update(figure)


history = model.train(images, labels, steps=STEPS, batch_size=4, patch_size=128, callback=show, progress=False)
plt.close(figure)

# %%
model

# %% [markdown]
# ## Segment images the model has not seen
#
# `predict` gives a label image and a list of objects with polygon and probability.

# %%
results = [model.predict(field.image) for field in unseen]

figure, axes = plt.subplots(2, 3, figsize=(12, 8.4), layout="constrained")
for column, (field, (found, objects)) in enumerate(zip(unseen, results)):
    axes[0, column].imshow(field.image)
    axes[0, column].set_axis_off()
    cs.plot.overlay(field.image, found, ax=axes[1, column])
    axes[1, column].set_title(f"{len(objects)} cells found, {field.truth.max()} are there")

# %%
results[0].objects

# %% [markdown]
# ## Score
#
# The fields are those of `stardist.matching`: at each threshold of overlap (intersection over union), how many cells were
# found (`tp`), missed (`fn`) and invented (`fp`).

# %%
truth = [field.truth for field in unseen]
thresholds = np.arange(0.5, 1.0, 0.05).round(2)
scores = cs.metrics.matching_dataset(truth, [found for found, _ in results], thresh=thresholds)

figure, (ax, pie) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained", width_ratios=(3, 2))
for name, label in (("accuracy", "average precision"), ("recall", "recall"), ("precision", "precision")):
    ax.plot(thresholds, [getattr(score, name) for score in scores], "o-", label=label, markersize=4)
ax.set(xlabel="overlap (IoU) that counts as found", ylim=(0, 1.02))
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
half = scores[0]
pie.barh(["invented", "missed", "found"], [half.fp, half.fn, half.tp], color=["#cc6677", "#ddaa33", "#228833"])
pie.set_title(f"cells at IoU 0.5: F1 {half.f1:.2f}", loc="left")
pie.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# ## Tune
#
# The thresholds were chosen on the annotated cells after the training. With a few complete images they can be chosen
# again: one image is kept for this, and the network runs only as often as there are choices.

# %%
held_back = cs.synthetic.field(seed=21)
choices = [round(choice, 2) for choice in np.arange(0.1, 0.95, 0.1)]
values = [
    cs.metrics.matching(held_back.truth, model.predict(held_back.image, prob_thresh=choice).labels, 0.7).f1
    for choice in choices
]
best = choices[int(np.argmax(values))]

figure, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
ax.plot(choices, values, "o-", color="black", markersize=4)
ax.axvline(model.thresholds["prob_thresh"], color="#4477aa", linestyle=":", label="chosen after the training")
ax.axvline(best, color="#cc6677", linestyle="--", label="best here")
ax.set(xlabel="prob_thresh", ylabel="F1 at IoU 0.7")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)

model.thresholds = {"prob_thresh": best}  # stored with the model from now on

# %% [markdown]
# ## The other two algorithms
#
# Cellpose and ELEPHANT are trained and used in the same way.

# %%
others = [cs.Cellpose(seed=1), cs.Elephant(seed=1)]
for other in others:
    other.train(images, labels, steps=STEPS // 2 + 1, batch_size=4, patch_size=128, progress=False)

figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
for ax, each in zip(axes, [model, *others]):
    found, objects = each.predict(unseen[0].image)
    score = cs.metrics.matching(unseen[0].truth, found)
    cs.plot.overlay(unseen[0].image, found, ax=ax)
    ax.set_title(f"{type(each).__name__}, {each.steps} steps: F1 {score.f1:.2f}")

# %% [markdown]
# ## Take the results elsewhere
#
# - **QuPath**: GeoJSON, dropped onto the open image or read by *File > Import objects from file*. The outlines fill back to
#   exactly the labelled pixels, and each object has its probability as a measurement.
# - **ImageJ, Fiji, napari, CellProfiler**: a 16-bit label image.
# - **The command line, QuPath, another computer**: the model is one file.

# %%
out = Path("results")
out.mkdir(exist_ok=True)
for number, (found, objects) in enumerate(results):
    with open(out / f"field{number}.geojson", "w") as file:
        json.dump(cs.to_geojson(found, simplify=0.5, objects=objects), file)
    cs.write_labels(out / f"field{number}.png", found)

model.save(out / "nuclei.safetensors")
again = cs.load(out / "nuclei.safetensors")
assert np.array_equal(again.predict(unseen[0].image).labels, model.predict(unseen[0].image).labels)
sorted(path.name for path in out.iterdir())
