"""The stardist package on TensorFlow, measured as its users run it. See README.md; normally started by run.py.

`--bf16` builds the network under Keras' policy mixed_bfloat16, both outputs in 32 bits as TensorFlow's guide asks for.
"""

import contextlib
import os
import sys
import time

from peer_common import (
    BEGIN, FILTERS, LEARNING_RATE, RAYS, VALIDATION_IMAGES, WARM_UP, arguments, load_batch, load_weights, peak_mb,
    read_scaled, report, timed,
)


def make_model(threads, weights_from=None, bf16=False):
    import tensorflow as tf
    from stardist.models import Config2D, StarDist2D

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if bf16:
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    config = Config2D(
        grid=(2, 2), n_rays=RAYS, n_channel_in=1, unet_n_filter_base=FILTERS, train_patch_size=(224, 224),
        train_batch_size=8, train_learning_rate=LEARNING_RATE, train_tensorboard=False,
    )
    model = StarDist2D(config, name="peer", basedir=None)
    if bf16:
        model.keras_model = with_outputs_in_32_bits(model.keras_model)
    if weights_from is not None:
        shapes = [weight.shape for weight in model.keras_model.get_weights()]
        model.keras_model.set_weights(load_weights(weights_from, shapes))
    return model


def with_outputs_in_32_bits(network):
    """The same network; losses and metrics of the package take the precision of the outputs."""
    import tensorflow as tf

    def layer_of(layer):
        settings = layer.get_config()
        if layer.name in network.output_names:
            settings["dtype"] = "float32"
        return layer.__class__.from_config(settings)

    return tf.keras.models.clone_model(network, clone_function=layer_of)


def step(chosen):
    import numpy as np

    images, prob, dist, mask = load_batch(chosen.folder)
    targets = [prob, np.concatenate([dist, mask], axis=-1)]
    model = make_model(chosen.threads, chosen.folder, chosen.bf16)
    base = peak_mb()
    model.prepare_for_training()
    losses = []
    times = timed(
        chosen.steps or 10,
        lambda: losses.append(float(model.keras_model.train_on_batch(images, targets)[0])),
        warm_up=WARM_UP,
    )
    return {"ms": {"step": times}, "loss": losses, "before_mb": base}


def predict(chosen):
    import numpy as np

    image = read_scaled(os.path.join(chosen.folder, "field.png"))
    model = make_model(chosen.threads, chosen.folder, chosen.bf16)
    base = peak_mb()
    repeats = chosen.steps or 5
    batch = image[None, ..., None]
    rays = []

    def forward():
        rays[:] = model.keras_model.predict(batch, verbose=0)[1:]

    network = timed(repeats, forward)
    counts = []

    def full():
        scaled = read_scaled(os.path.join(chosen.folder, "field.png"))
        _, found = model.predict_instances(scaled, prob_thresh=0.5, nms_thresh=0.4)
        counts.append(len(found["points"]))

    times = timed(repeats, full)
    mean = float(np.abs(rays[0]).mean())
    return {"ms": {"network": network, "full": times}, "objects": counts[-1], "mean": mean, "before_mb": base}


def augment(image, labels):
    """The recipe of the package's examples: symmetries, a factor, a shift, noise."""
    import numpy as np

    order = np.random.permutation(2)
    image, labels = image.transpose(order), labels.transpose(order)
    for axis in range(2):
        if np.random.rand() > 0.5:
            image, labels = np.flip(image, axis), np.flip(labels, axis)
    image = image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)
    image = image + 0.02 * np.random.uniform(0, 1) * np.random.normal(0, 1, image.shape)
    return image, labels


def train200(chosen):
    model = make_model(chosen.threads)
    base = peak_mb()
    import imageio.v2 as imageio
    import numpy as np

    start = time.perf_counter()
    images, labels = [], []
    for name in sorted(os.listdir(os.path.join(chosen.folder, "images"))):
        images.append(read_scaled(os.path.join(chosen.folder, "images", name)))
        wire = np.asarray(imageio.imread(os.path.join(chosen.folder, "labels", name)))
        labels.append(wire.astype(np.int32) - 1)
    validation = (images[:VALIDATION_IMAGES], labels[:VALIDATION_IMAGES])
    steps = chosen.steps or 200
    history = model.train(
        images, labels, validation_data=validation, augmenter=augment, seed=0, epochs=1, steps_per_epoch=steps
    )
    elapsed = 1e3 * (time.perf_counter() - start)
    return {"ms": {"train": [elapsed]}, "steps": steps, "loss": [float(history.history["loss"][-1])], "before_mb": base}


def cold(chosen):
    model = make_model(chosen.threads, chosen.folder)
    image = read_scaled(os.path.join(chosen.folder, "images", "00.png"))
    _, found = model.predict_instances(image, prob_thresh=0.5, nms_thresh=0.4)
    return {"ms": {"cold": [1e3 * (time.perf_counter() - BEGIN)]}, "objects": len(found["points"])}


def main():
    tasks = {"step": step, "predict": predict, "train200": train200, "cold": cold}
    chosen = arguments(__doc__, list(tasks), flags=("bf16",))
    # The packages print progress; standard output belongs to the result.
    with contextlib.redirect_stdout(sys.stderr):
        result = tasks[chosen.task](chosen)
    import stardist
    import tensorflow as tf

    report("tensorflow", chosen, {"tensorflow": tf.__version__, "stardist": stardist.__version__}, result)


if __name__ == "__main__":
    main()
