package io.github.cellsparse;

import java.lang.ref.Reference;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.Set;

/**
 * A segmentation network with its weights and everything needed to use it.
 *
 * <p>Safe for use by many threads: any number may predict, save and ask at a time, while {@link #train} and {@link #reset}
 * need the model alone. A call that finds the model taken throws {@link CellsparseException.Busy}; it never waits.
 *
 * <p>Close it to free its memory early. {@link #close} never waits: work that is running is asked to stop at its next step or
 * tile, and memory is freed when it has ended.
 */
public final class Model implements AutoCloseable {
    private final Handle handle;
    private final Algorithm algorithm;
    private final int channels;
    private final Set<Long> running = new HashSet<>();
    private boolean closed;

    private Model(long token) {
        handle = new Handle(this, "model", token, Native::modelFree);
        Map<String, Object> info = info();
        algorithm = Algorithm.of(String.valueOf(info.get("algorithm")));
        Object config = info.get("config");
        channels = config instanceof Map ? ((Number) ((Map<?, ?>) config).get("n_channels")).intValue() : 1;
    }

    /** An untrained model with the default architecture for images of one channel. */
    public static Model create(Algorithm algorithm) {
        return create(algorithm, ModelOptions.defaults());
    }

    /**
     * An untrained model.
     *
     * @throws CellsparseException.Config if a field of the architecture is unknown or out of range
     */
    public static Model create(Algorithm algorithm, ModelOptions options) {
        NativeLibrary.require();
        return new Model(Native.modelNew(algorithm.id(), Json.write(options.config), options.seed));
    }

    /**
     * A model from a file that {@link #save}, the command line or another language wrote.
     *
     * @throws CellsparseException.NotFound if there is no such file
     * @throws CellsparseException.File if it is damaged, of another format or of a later version
     * @throws UnsupportedOperationException for a path that is not of the default file system
     */
    public static Model load(Path path) {
        NativeLibrary.require();
        return new Model(Native.modelLoad(fileName(path)));
    }

    /**
     * Turns a model of one program into one of another. The content of {@code source} says what it is: a model of cellsparse, a
     * model of StarDist (folder, {@code .zip}, {@code .h5} beside its {@code config.json}, package of bioimage.io,
     * {@code TF_SavedModel.zip} or frozen {@code .pb} of TensorFlow), weights of Cellpose 2 or 3 or elephant-core. The ending of
     * {@code target} says what it becomes: {@code .safetensors} (a model of cellsparse), {@code .pth} (PyTorch), {@code .onnx},
     * {@code .zip} (package of bioimage.io); of networks of StarDist also no ending (folder of its package),
     * {@code SavedModel.zip} (TensorFlow, Fiji) and {@code .pb} (frozen graph of TensorFlow, QuPath).
     *
     * @return what a user should know, one sentence each
     * @throws CellsparseException.NotFound if there is no such file
     * @throws CellsparseException.File if it is damaged or of a kind that is not converted
     * @throws UnsupportedOperationException for a path that is not of the default file system
     */
    public static List<String> convert(Path source, Path target) {
        return converted(source, target, null);
    }

    /**
     * {@link #convert(Path, Path)} with settings: a JSON file with what the source does not tell ({@code config.json} of StarDist,
     * {@code normalization}, {@code diameter}, {@code pixel_size}), what a package of bioimage.io says of the model
     * ({@code package}), and how an ONNX file is written ({@code {"onnx": {"normalization": "inside"}}}: the network scales
     * intensities itself).
     *
     * @return what a user should know, one sentence each
     * @throws CellsparseException.NotFound if there is no such file
     * @throws CellsparseException.File if one is damaged, of a kind that is not converted, or holds other settings
     * @throws UnsupportedOperationException for a path that is not of the default file system
     */
    public static List<String> convert(Path source, Path target, Path config) {
        return converted(source, target, fileName(config));
    }

    private static List<String> converted(Path source, Path target, String config) {
        NativeLibrary.require();
        List<String> notes = new ArrayList<>();
        for (Object note : Json.parseArray(Native.convert(fileName(source), fileName(target), config))) {
            notes.add(String.valueOf(note));
        }
        return notes;
    }

    /**
     * Writes the model to one file, atomically: the file is the old one or the new one, never half.
     *
     * @throws CellsparseException.Io if it cannot be written
     * @throws UnsupportedOperationException for a path that is not of the default file system
     */
    public void save(Path path) {
        try {
            Native.modelSave(handle.token(), fileName(path));
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Forgets everything learned: new initial weights from a seed, default thresholds, no history.
     *
     * @throws IllegalArgumentException if the seed is negative
     */
    public void reset(long seed) {
        if (seed < 0) {
            throw new IllegalArgumentException("the seed is " + seed + "; it must be 0 or more");
        }
        try {
            Native.modelReset(handle.token(), seed);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /** The algorithm. */
    public Algorithm algorithm() {
        return algorithm;
    }

    /** Channels of the images that the model takes. */
    public int channels() {
        return channels;
    }

    /** Optimiser steps of all trainings; 0 for a model that was never trained. */
    public long steps() {
        return ((Number) info().get("steps")).longValue();
    }

    /**
     * What can be said about the model without running it: algorithm, config, parameters, normalization, thresholds, steps,
     * loss, resumable, pixel_size (micrometres of the training images), cell_diameter, cell_diameter_um. Objects are maps, numbers are doubles.
     */
    public Map<String, Object> info() {
        try {
            return Json.parseObject(Native.modelInfo(handle.token()));
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Losses and learning rates of all trainings: steps, loss, losses, learning_rate, validation_steps, validation_loss, as
     * lists of doubles.
     */
    public Map<String, Object> history() {
        try {
            return Json.parseObject(Native.modelHistory(handle.token()));
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * What the last training of this object told, also of another thread's: steps, seconds, seconds_per_step, loss, device,
     * precision, stopped, begun, kept, notes; empty when there was none.
     */
    public Optional<Map<String, Object>> lastTraining() {
        try {
            return Optional.ofNullable(Json.parseObject(Native.modelLastTraining(handle.token())));
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /** Trains without a listener; see {@link #train(Dataset, TrainOptions, ProgressListener)}. */
    public TrainingSummary train(Dataset data, TrainOptions options) {
        return train(data, options, null);
    }

    /**
     * Trains on annotated images, from the weights the model has now. The same seed, data and machine kind give the same
     * weights, whatever the number of threads. Stopping early, by the listener, a token or {@link #close}, is no failure: the
     * weights so far are kept. After a failure the model is as it was before.
     *
     * @param listener called after every step on this thread; may be null
     * @throws CellsparseException if the data or the options are unusable, or the loss diverges
     */
    public TrainingSummary train(Dataset data, TrainOptions options, ProgressListener listener) {
        Relay relay = listener == null ? null : new Relay(listener);
        double[] values = new double[5];
        long cancel = begin(options.cancel);
        try {
            long validation = options.validation == null ? 0 : options.validation.token();
            Map<String, Object> told = Json.parseObject(
                    Native.modelTrain(handle.token(), data.token(), validation, options.json(), cancel, relay, values));
            return new TrainingSummary((long) values[0], values[1], values[2], values[3],
                    TrainingSummary.StopReason.of((int) values[4]), String.valueOf(told.get("device")),
                    String.valueOf(told.get("begun")), String.valueOf(told.get("kept")), Json.texts(told.get("notes")));
        } finally {
            end(options.cancel, cancel);
            Reference.reachabilityFence(this);
            Reference.reachabilityFence(data);
            Reference.reachabilityFence(options);
        }
    }

    /** Segments an image with what is stored with the model. */
    public Segmentation predict(Image image) {
        return predict(image, PredictOptions.defaults());
    }

    /**
     * Segments an image.
     *
     * @throws CellsparseException.Image if the image is unusable or its channels do not fit the model
     * @throws CellsparseException.Config if an option is out of range or of another algorithm
     * @throws CellsparseException.Cancelled if a token or {@link #close} stopped it
     */
    public Segmentation predict(Image image, PredictOptions options) {
        long cancel = begin(options.cancel);
        try {
            return new Segmentation(Native.modelPredict(handle.token(), image.data(), image.direct, image.type.dtype,
                    image.offset, image.height, image.width, image.channels, image.rowStride, image.columnStride,
                    image.channelStride, options.json(), cancel));
        } finally {
            end(options.cancel, cancel);
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Segments the image of a file that need not fit into the memory, part by part, with the result of the whole: TIFF of any size
     * and kind, an OME-Zarr folder, any other picture.
     *
     * @throws CellsparseException.NotFound if there is no such file
     * @throws CellsparseException.Cancelled if a token, the listener or {@link #close} stopped it
     * @throws UnsupportedOperationException for a path that is not of the default file system
     */
    public LargeSegmentation predictLarge(Path image, LargeOptions options) {
        return predictLarge(fileName(image), null, options);
    }

    /**
     * Segments an image of which any part can be read, with the result of the whole.
     *
     * @throws CellsparseException.Image if the channels of the image do not fit the model, or a part has another shape than was asked
     *     for
     * @throws CellsparseException.Cancelled if a token, the listener or {@link #close} stopped it
     * @throws java.io.UncheckedIOException if the source or the target of labels threw an {@link java.io.IOException}
     */
    public LargeSegmentation predictLarge(RegionSource image, LargeOptions options) {
        return predictLarge(null, image, options);
    }

    private LargeSegmentation predictLarge(String path, RegionSource image, LargeOptions options) {
        int[] size = image == null
                ? null
                : new int[] {image.height(), image.width(), image.channels(), image.type().dtype};
        double[] known = image == null ? null : image.pixelSize();
        double[] pixelSize = known == null ? new double[2] : known;
        long cancel = begin(options.cancel);
        try {
            PartsRelay relay = new PartsRelay(image, options);
            return LargeSegmentation.of(Json.parseObject(Native.modelPredictLarge(handle.token(), path, size, pixelSize,
                    options.json(), cancel, options.labels != null, relay)));
        } finally {
            end(options.cancel, cancel);
            Reference.reachabilityFence(this);
        }
    }

    /** Whether {@link #close} was called. */
    public boolean isClosed() {
        return handle.isClosed();
    }

    /**
     * Frees the model. Work that is running is asked to stop: a prediction then throws {@link CellsparseException.Cancelled},
     * a training returns and its weights are lost. Closing again does nothing.
     */
    @Override
    public void close() {
        synchronized (running) {
            closed = true;
            running.forEach(Native::cancelRaise);
        }
        handle.close();
    }

    /** A cancel handle of one call, raised by the caller's token and by {@link #close}. */
    private long begin(CancelToken token) {
        handle.token();
        long cancel = Native.cancelNew();
        synchronized (running) {
            running.add(cancel);
            if (closed) {
                Native.cancelRaise(cancel);
            }
        }
        if (token != null) {
            token.attach(cancel);
        }
        return cancel;
    }

    private void end(CancelToken token, long cancel) {
        if (token != null) {
            token.detach(cancel);
        }
        synchronized (running) {
            running.remove(cancel);
        }
        Native.cancelFree(cancel);
    }

    /** Turns events of the native library into those of a listener. */
    private static final class Relay implements Native.Observer {
        private final ProgressListener listener;

        Relay(ProgressListener listener) {
            this.listener = listener;
        }

        @Override
        public boolean step(
                long step,
                long totalSteps,
                long epoch,
                float loss,
                float validationLoss,
                float learningRate,
                double elapsed,
                double remaining,
                String[] names,
                float[] values) {
            Map<String, Double> losses = new LinkedHashMap<>();
            for (int i = 0; i < names.length; i++) {
                losses.put(names[i], (double) values[i]);
            }
            OptionalDouble validation =
                    Float.isNaN(validationLoss) ? OptionalDouble.empty() : OptionalDouble.of(validationLoss);
            return listener.onStep(new TrainingProgress(step, totalSteps, epoch, loss,
                    java.util.Collections.unmodifiableMap(losses), validation, learningRate, elapsed, remaining));
        }
    }

    /** The name of a file as the native library opens it, which knows neither other file systems nor Java's folder. */
    static String fileName(Path path) {
        return path.toFile().getAbsolutePath();
    }
}
