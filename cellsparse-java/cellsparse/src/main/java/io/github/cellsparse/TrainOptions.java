package io.github.cellsparse;

import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;

/** How to train. Immutable; what is not set has the library's default. */
public final class TrainOptions {
    final Map<String, Object> values;
    final Dataset validation;
    final CancelToken cancel;

    private TrainOptions(Builder builder) {
        values = new LinkedHashMap<>(builder.values);
        validation = builder.validation;
        cancel = builder.cancel;
    }

    /** The defaults: 800 steps of 4 patches of 128 x 128 pixels or fewer, until the loss falls no more; seed 0. */
    public static TrainOptions defaults() {
        return builder().build();
    }

    /** A builder with the defaults. */
    public static Builder builder() {
        return new Builder();
    }

    String json() {
        return Json.write(values);
    }

    /** A named set of defaults. */
    public enum Preset {
        /** What measures best from a few annotations. */
        DEFAULT("default"),
        /** The settings of the reference implementation. */
        REFERENCE("reference");

        private final String id;

        Preset(String id) {
            this.id = id;
        }
    }

    /** Builds {@link TrainOptions}. Values out of range are refused by {@link Model#train}. */
    public static final class Builder {
        private final Map<String, Object> values = new LinkedHashMap<>();
        private Dataset validation;
        private CancelToken cancel;

        private Builder() {}

        /** Optimiser steps (batches). Default 800, or as many as fit into the time budget, until the loss falls no more. */
        public Builder steps(int steps) {
            return set("steps", steps);
        }

        /** Patches in a batch. Default 4; 8 where the steps are given, or with the settings of the reference. */
        public Builder batchSize(int batchSize) {
            return set("batch_size", batchSize);
        }

        /** Side of the square training patches in pixels. Default 128, or 224 in the cases of {@link #batchSize}. */
        public Builder patchSize(int patchSize) {
            return set("patch_size", patchSize);
        }

        /** Learning rate. Default: the preset's. */
        public Builder learningRate(double learningRate) {
            return set("learning_rate", learningRate);
        }

        /** Which set of defaults to train with. */
        public Builder preset(Preset preset) {
            return set("preset", preset.id);
        }

        /**
         * Whether a model that was never trained begins with the weights in the library, which were learned on drawn fields,
         * where they fit its network, or with the random ones it has. Default true; never with the settings of the reference.
         */
        public Builder starter(boolean starter) {
            return set("init", starter ? "starter" : "none");
        }

        /** Stop after this time, with the learning-rate schedule fitted to it. Default: none. */
        public Builder timeBudget(Duration timeBudget) {
            return set("time_budget", timeBudget.toNanos() / 1e9);
        }

        /** Seed of sampling and augmentation, at least 0. Default 0. */
        public Builder seed(long seed) {
            return set("seed", seed);
        }

        /** Go on with the optimiser state and step count stored in the model. Default false. */
        public Builder resume(boolean resume) {
            return set("resume", resume);
        }

        /**
         * Take intensities as they are instead of scaling each image by its own percentiles: for parts of one large image
         * that were scaled alike and hold cells of one size. Default false.
         */
        public Builder normalized(boolean normalized) {
            return set("normalized", normalized);
        }

        /**
         * Micrometres per pixel of all images; kept with the model. Default: what {@link Dataset#setPixelSize} said of each.
         */
        public Builder pixelSize(double micrometres) {
            return set("pixel_size", micrometres);
        }

        /** Whether images of different pixel sizes are brought to one. Default true. */
        public Builder rescale(boolean rescale) {
            return set("rescale", rescale);
        }

        /** Where to run: {@code auto} (default) or one of {@link Cellsparse#devices}. */
        public Builder device(String device) {
            return set("device", device);
        }

        /**
         * Numbers to compute with: {@code auto} (default), {@code f32}, {@code tf32} (on CUDA devices), or {@code bf16}, which
         * rounds maps, gradients and kernels to 16 bits and is not faster on the CPU.
         */
        public Builder precision(String precision) {
            return set("precision", precision);
        }

        /** Compute threads; the result does not depend on it. Default: one per core. */
        public Builder threads(int threads) {
            return set("threads", threads);
        }

        /**
         * Memory to take at most, in bytes. Work that would take more is refused with {@link CellsparseException} before it
         * begins. Default: half of what is free.
         */
        public Builder memory(long bytes) {
            return set("memory", bytes);
        }

        /** Write the model here again and again, so that a crash loses little. Default: nowhere. */
        public Builder checkpoint(Path checkpoint) {
            return set("checkpoint", Model.fileName(checkpoint));
        }

        /** Images to choose weights and thresholds on. Default: none. */
        public Builder validation(Dataset validation) {
            this.validation = validation;
            return this;
        }

        /** Stops the training from another thread. */
        public Builder cancel(CancelToken cancel) {
            this.cancel = cancel;
            return this;
        }

        /** The options. */
        public TrainOptions build() {
            return new TrainOptions(this);
        }

        private Builder set(String name, Object value) {
            values.put(name, value);
            return this;
        }
    }
}
