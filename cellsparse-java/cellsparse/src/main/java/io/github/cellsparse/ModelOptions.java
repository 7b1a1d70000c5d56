package io.github.cellsparse;

import java.util.LinkedHashMap;
import java.util.Map;

/** The architecture of a new model, and the seed of its initial weights. Immutable. */
public final class ModelOptions {
    final long seed;
    final Map<String, Object> config;

    private ModelOptions(Builder builder) {
        seed = builder.seed;
        config = new LinkedHashMap<>(builder.config);
    }

    /** The defaults: one channel, seed 0. */
    public static ModelOptions defaults() {
        return builder().build();
    }

    /** A builder with the defaults. */
    public static Builder builder() {
        return new Builder();
    }

    /** Builds {@link ModelOptions}. */
    public static final class Builder {
        private long seed;
        private final Map<String, Object> config = new LinkedHashMap<>();

        private Builder() {}

        /** Seed of the initial weights, at least 0. Default 0. */
        public Builder seed(long seed) {
            if (seed < 0) {
                throw new IllegalArgumentException("the seed is " + seed + "; it must be 0 or more");
            }
            this.seed = seed;
            return this;
        }

        /** Channels of the images. Default 1. */
        public Builder channels(int channels) {
            return set("n_channels", channels);
        }

        /**
         * A field of the algorithm's architecture, such as {@code n_rays}, {@code grid} (a list), {@code n_filter_base} or
         * {@code n_classes} of StarDist, {@code widths} (a list) or {@code diam_mean} of Cellpose, {@code widths} or {@code
         * residual} of ELEPHANT. A name that is not known is refused when the model is made.
         */
        public Builder set(String name, Object value) {
            config.put(name, value);
            return this;
        }

        /** The options. */
        public ModelOptions build() {
            return new ModelOptions(this);
        }
    }
}
