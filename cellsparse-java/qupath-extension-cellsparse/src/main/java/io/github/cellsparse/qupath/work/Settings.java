package io.github.cellsparse.qupath.work;

import io.github.cellsparse.Algorithm;
import java.util.Arrays;
import java.util.Objects;

/** How to train and to segment. Immutable; what is not set has the default named with it. */
public final class Settings {
    /** The network; null for that of the model of the name, or the one that suits the drawn cells best. */
    public final Algorithm algorithm;
    /** Name of the model. Default {@code default}. */
    public final String model;
    /** URL of a server that does the work, ending with the algorithm; empty (the default) works in this process. */
    public final String serverUrl;
    /** Seconds that a training takes, with the choice of its thresholds, when no steps are set. Default 60. A server has none. */
    public final double timeBudget;
    /** Optimiser steps; 0 (the default) means as many as fit into the time, and on a server {@link #SERVER_STEPS}. */
    public final int steps;
    /** Patches in a batch; 0 (the default) leaves it to the library, and means 8 on a server. */
    public final int batchSize;
    /** Side of the training patches in pixels of the chosen resolution; 0 (the default) leaves it to the library, and means 224 on a server. */
    public final int patchSize;
    /** Learning rate; 0 (the default) leaves it to the library. */
    public final double learningRate;
    /** Seed of the first weights and of the training. Default 0. */
    public final long seed;
    /** Compute threads; 0 (the default) takes one per core. */
    public final int threads;
    /** Full-resolution pixels along a pixel to work with; 0 (the default) means that {@link #pixelSize} decides. */
    public final double downsample;
    /** Micrometres along a pixel to work with; 0 (the default) means full resolution. */
    public final double pixelSize;
    /** Channels to work with, from 0; none (the default) means all. */
    private final int[] channels;
    /** Side of a tile in pixels of the chosen resolution. Default 1024. */
    public final int tileSize;
    /** Pixels around a tile's own area that are read with it. Default 128. */
    public final int overlap;
    /** Objects with fewer pixels are left out. Default 10. */
    public final double minArea;
    /** Tolerance of outlines in pixels of the chosen resolution. Default 0. */
    public final double simplify;
    /** Smallest object probability; 0 (the default) takes the model's. Not for Cellpose. */
    public final double probability;
    /** Diameter of the cells in pixels of the chosen resolution, for Cellpose; 0 (the default) takes the model's. */
    public final double diameter;

    /** Steps of a training on a server that does not get another number. */
    public static final int SERVER_STEPS = 200;

    private static final int SERVER_BATCH_SIZE = 8;
    private static final int SERVER_PATCH_SIZE = 224;

    private Settings(Builder builder) {
        algorithm = builder.algorithm;
        model = builder.model;
        serverUrl = builder.serverUrl;
        timeBudget = builder.timeBudget;
        steps = builder.steps;
        batchSize = builder.batchSize;
        patchSize = builder.patchSize;
        learningRate = builder.learningRate;
        seed = builder.seed;
        threads = builder.threads;
        downsample = builder.downsample;
        pixelSize = builder.pixelSize;
        channels = builder.channels;
        tileSize = builder.tileSize;
        overlap = builder.overlap;
        minArea = builder.minArea;
        simplify = builder.simplify;
        probability = builder.probability;
        diameter = builder.diameter;
    }

    /** The same for another network. */
    Settings with(Algorithm other) {
        Builder builder = new Builder(other);
        builder.model = model;
        builder.serverUrl = serverUrl;
        builder.timeBudget = timeBudget;
        builder.steps = steps;
        builder.batchSize = batchSize;
        builder.patchSize = patchSize;
        builder.learningRate = learningRate;
        builder.seed = seed;
        builder.threads = threads;
        builder.downsample = downsample;
        builder.pixelSize = pixelSize;
        builder.channels = channels;
        builder.tileSize = tileSize;
        builder.overlap = overlap;
        builder.minArea = minArea;
        builder.simplify = simplify;
        builder.probability = probability;
        builder.diameter = diameter;
        return new Settings(builder);
    }

    /** The channels that were chosen; empty means all. */
    public int[] channels() {
        return channels.clone();
    }

    /** A builder with the defaults; {@code algorithm} may be null, see {@link Settings#algorithm}. */
    public static Builder builder(Algorithm algorithm) {
        return new Builder(algorithm);
    }

    /** Micrometres along a pixel of the chosen resolution of one image; 0 when they are not known. */
    double workingPixelSize(Slide slide) throws Failure {
        double size = slide.pixelSize();
        return size > 0 && Double.isFinite(size) ? size * downsample(slide) : 0;
    }

    /** Full-resolution pixels along a pixel to work with, for one image. */
    public double downsample(Slide slide) throws Failure {
        if (downsample > 0) {
            return downsample;
        }
        if (pixelSize <= 0) {
            return 1;
        }
        double size = slide.pixelSize();
        if (!(size > 0)) {
            throw new Failure("the image '" + slide.name() + "' has no pixel size in micrometres, so " + pixelSize
                    + " micrometres per pixel cannot be reached; set the pixel size of the image, or a downsample");
        }
        return pixelSize / size;
    }

    /** The channels to read from one image. */
    public int[] channels(Slide slide) throws Failure {
        int available = slide.channels();
        if (channels.length == 0) {
            int[] all = new int[available];
            Arrays.setAll(all, i -> i);
            return all;
        }
        for (int channel : channels) {
            if (channel < 0 || channel >= available) {
                throw new Failure("channel " + (channel + 1) + " is chosen; the image '" + slide.name() + "' has " + available);
            }
        }
        return channels.clone();
    }

    /** Optimiser steps of a training on a server. */
    int serverSteps() {
        return steps > 0 ? steps : SERVER_STEPS;
    }

    /** Patches in a batch on a server. */
    int serverBatchSize() {
        return batchSize > 0 ? batchSize : SERVER_BATCH_SIZE;
    }

    /** Side of the training patches on a server. What is read around annotations is as wide, wherever the work is done. */
    int serverPatchSize() {
        return patchSize > 0 ? patchSize : SERVER_PATCH_SIZE;
    }

    /** Whether a server does the work. */
    public boolean isRemote() {
        return !serverUrl.isEmpty();
    }

    /** Builds {@link Settings}. */
    public static final class Builder {
        private final Algorithm algorithm;
        private String model = "default";
        private String serverUrl = "";
        private double timeBudget = 60;
        private int steps;
        private int batchSize;
        private int patchSize;
        private double learningRate;
        private long seed;
        private int threads;
        private double downsample;
        private double pixelSize;
        private int[] channels = {};
        private int tileSize = 1024;
        private int overlap = 128;
        private double minArea = 10;
        private double simplify;
        private double probability;
        private double diameter;

        private Builder(Algorithm algorithm) {
            this.algorithm = algorithm;
        }

        /** See {@link Settings#model}. */
        public Builder model(String value) {
            model = Objects.requireNonNull(value, "model").strip();
            return this;
        }

        /** See {@link Settings#serverUrl}. */
        public Builder serverUrl(String value) {
            serverUrl = value == null ? "" : value.strip();
            return this;
        }

        /** See {@link Settings#timeBudget}. */
        public Builder timeBudget(double seconds) {
            timeBudget = seconds;
            return this;
        }

        /** See {@link Settings#steps}. */
        public Builder steps(int value) {
            steps = value;
            return this;
        }

        /** See {@link Settings#batchSize}. */
        public Builder batchSize(int value) {
            batchSize = value;
            return this;
        }

        /** See {@link Settings#patchSize}. */
        public Builder patchSize(int value) {
            patchSize = value;
            return this;
        }

        /** See {@link Settings#learningRate}. */
        public Builder learningRate(double value) {
            learningRate = value;
            return this;
        }

        /** See {@link Settings#seed}. */
        public Builder seed(long value) {
            seed = value;
            return this;
        }

        /** See {@link Settings#threads}. */
        public Builder threads(int value) {
            threads = value;
            return this;
        }

        /** See {@link Settings#downsample}. */
        public Builder downsample(double value) {
            downsample = value;
            return this;
        }

        /** See {@link Settings#pixelSize}. */
        public Builder pixelSize(double value) {
            pixelSize = value;
            return this;
        }

        /** See {@link Settings#channels()}. */
        public Builder channels(int... values) {
            channels = values.clone();
            return this;
        }

        /** See {@link Settings#tileSize}. */
        public Builder tileSize(int value) {
            tileSize = value;
            return this;
        }

        /** See {@link Settings#overlap}. */
        public Builder overlap(int value) {
            overlap = value;
            return this;
        }

        /** See {@link Settings#minArea}. */
        public Builder minArea(double value) {
            minArea = value;
            return this;
        }

        /** See {@link Settings#simplify}. */
        public Builder simplify(double value) {
            simplify = value;
            return this;
        }

        /** See {@link Settings#probability}. */
        public Builder probability(double value) {
            probability = value;
            return this;
        }

        /** See {@link Settings#diameter}. */
        public Builder diameter(double value) {
            diameter = value;
            return this;
        }

        /** The settings. The library checks what it is handed; here is checked what it does not see. */
        public Settings build() throws Failure {
            expect(!model.isEmpty(), "the model has no name; give it one, such as 'default'");
            expect(steps >= 0, "steps is " + steps + "; expected 0 (as many as fit into the time) or more");
            expect(finite(timeBudget), "the training time is " + timeBudget + "; expected a number of seconds such as 60");
            expect(steps > 0 || timeBudget > 0 || isRemote(),
                    "neither training time nor steps are set; expected a number of seconds, or of steps, above 0");
            expect(batchSize >= 0 && batchSize <= 256, "the batch has " + batchSize + " patches; expected 0 (default) to 256");
            expect(patchSize == 0 || patchSize >= 16 && patchSize <= 4096,
                    "the patch size is " + patchSize + "; expected 0 (default), or 16 to 4096 pixels");
            expect(learningRate >= 0, "the learning rate is " + learningRate + "; expected 0 (default) or more");
            expect(seed >= 0, "the seed is " + seed + "; expected 0 or more");
            expect(threads >= 0, "there are " + threads + " threads; expected 0 (one per core) or more");
            expect(finite(downsample), "the downsample is " + downsample + "; expected 0 (not set) or more");
            expect(finite(pixelSize), "the pixel size is " + pixelSize + "; expected 0 (not set) or more micrometres");
            expect(overlap >= 0 && overlap <= 4096, "the overlap is " + overlap + "; expected 0 to 4096 pixels");
            expect(tileSize >= 2 * overlap + 64 && tileSize <= 16384, "the tiles have " + tileSize
                    + " pixels; expected at least 64 more than twice the overlap (" + overlap + "), and at most 16384");
            expect(finite(minArea), "the smallest area is " + minArea + "; expected 0 or more pixels");
            expect(finite(simplify), "the tolerance of outlines is " + simplify + "; expected 0 or more pixels");
            expect(probability >= 0 && probability < 1, "the probability is " + probability + "; expected 0 (the model's) to 1");
            expect(finite(diameter), "the diameter is " + diameter + "; expected 0 (the model's) or more pixels");
            return new Settings(this);
        }

        private boolean isRemote() {
            return !serverUrl.isEmpty();
        }

        private static boolean finite(double value) {
            return value >= 0 && value < 1e9;
        }

        private static void expect(boolean fine, String message) throws Failure {
            if (!fine) {
                throw new Failure(message);
            }
        }
    }
}
