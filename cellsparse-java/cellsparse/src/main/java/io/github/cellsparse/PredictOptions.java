package io.github.cellsparse;

import java.util.LinkedHashMap;
import java.util.Map;

/** How to predict. Immutable; what is not set is stored with the model. */
public final class PredictOptions {
    final Map<String, Object> values;
    final CancelToken cancel;

    private PredictOptions(Builder builder) {
        values = new LinkedHashMap<>(builder.values);
        cancel = builder.cancel;
    }

    /** The defaults. */
    public static PredictOptions defaults() {
        return builder().build();
    }

    /** A builder with the defaults. */
    public static Builder builder() {
        return new Builder();
    }

    String json() {
        return Json.write(values);
    }

    /** Builds {@link PredictOptions}. Values out of range are refused by {@link Model#predict}. */
    public static final class Builder {
        private final Map<String, Object> values = new LinkedHashMap<>();
        private CancelToken cancel;

        private Builder() {}

        /** StarDist: smallest object probability; ELEPHANT: smallest centre probability; between 0 and 1. */
        public Builder probThresh(double value) {
            return set("prob_thresh", value);
        }

        /** StarDist: largest overlap that two objects may keep, 0 to 1. */
        public Builder nmsThresh(double value) {
            return set("nms_thresh", value);
        }

        /** Cellpose: largest flow error of a cell; 0 keeps all. */
        public Builder flowThreshold(double value) {
            return set("flow_threshold", value);
        }

        /** Cellpose: smallest cell-probability logit of a pixel. */
        public Builder cellprobThreshold(double value) {
            return set("cellprob_threshold", value);
        }

        /** Cellpose: diameter of the cells in pixels. */
        public Builder diameter(double value) {
            return set("diameter", value);
        }

        /** Cellpose: average over mirrored, overlapping tiles; about three times the work. Default false. */
        public Builder augment(boolean value) {
            return set("augment", value);
        }

        /** ELEPHANT: {@code watershed} (default) or {@code ellipse}. */
        public Builder postprocess(String value) {
            return set("postprocess", value);
        }

        /** Objects with fewer pixels are removed. Default 0. */
        public Builder minArea(double value) {
            return set("min_area", value);
        }

        /** Side of the tiles in pixels. Default: chosen by the library. */
        public Builder tile(int value) {
            return set("tile", value);
        }

        /** Take intensities as they are, as in {@link TrainOptions.Builder#normalized}. Default false. */
        public Builder normalized(boolean value) {
            return set("normalized", value);
        }

        /**
         * Micrometres per pixel of the image. An image whose pixels have another size than those of the training is seen
         * scaled, where that one is known; the result is in the pixels of the image. Default: not known.
         */
        public Builder pixelSize(double micrometres) {
            return set("pixel_size", micrometres);
        }

        /**
         * Whether an image of another pixel size is seen scaled, and by Cellpose one of cells of another size, where the
         * size of the pixels or a diameter is not known. Default true.
         */
        public Builder rescale(boolean value) {
            return set("rescale", value);
        }

        /** Where to run: {@code auto} (default) or one of {@link Cellsparse#devices}. */
        public Builder device(String value) {
            return set("device", value);
        }

        /**
         * Numbers to compute with: {@code auto} (default), {@code f32}, {@code tf32} (on CUDA devices), or {@code bf16}, which
         * rounds maps, gradients and kernels to 16 bits and is not faster on the CPU.
         */
        public Builder precision(String value) {
            return set("precision", value);
        }

        /** Compute threads. Default: one per core. */
        public Builder threads(int value) {
            return set("threads", value);
        }

        /**
         * Memory to take at most, in bytes. Work that would take more is refused with {@link CellsparseException} before it
         * begins. Default: half of what is free.
         */
        public Builder memory(long bytes) {
            return set("memory", bytes);
        }

        /** Stops the prediction from another thread. */
        public Builder cancel(CancelToken value) {
            cancel = value;
            return this;
        }

        /** The options. */
        public PredictOptions build() {
            return new PredictOptions(this);
        }

        private Builder set(String name, Object value) {
            values.put(name, value);
            return this;
        }
    }
}
