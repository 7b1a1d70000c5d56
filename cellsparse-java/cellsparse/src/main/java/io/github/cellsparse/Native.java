package io.github.cellsparse;

/**
 * The functions of {@code cellsparse.h}, one for one. Handles are tokens, 0 for NULL; a wrong one is an exception and no
 * crash. A status other than success is thrown as {@link CellsparseException#of}.
 *
 * <p>Pixels come as an array of the sample type, or as a direct buffer ({@code direct}); {@code offset} and strides are in
 * bytes, and all strides 0 mean rows without gaps.
 */
final class Native {
    /** The version of the binary interface that these declarations are written for. */
    static final int ABI_VERSION = 1;

    /** Watches a training; false stops it. */
    interface Observer {
        boolean step(
                long step,
                long totalSteps,
                long epoch,
                float loss,
                float validationLoss,
                float learningRate,
                double elapsed,
                double remaining,
                String[] names,
                float[] values);
    }

    /** The caller's part in a segmentation by parts. */
    interface Parts {
        /** Samples in the byte order of the machine, without gaps. */
        byte[] read(int level, int top, int left, int height, int width);

        void write(int top, int left, int height, int width, int[] labels);

        /** False stops the run. */
        boolean progress(String phase, long done, long total, double elapsed, double remaining);
    }

    private Native() {}

    /** The exception of a status code; called by the native library. */
    static RuntimeException failure(int status, String message) {
        return CellsparseException.of(status, message);
    }

    static native int abiVersion();

    static native String version();

    static native String devices();

    static native long liveHandles();

    static native long cancelNew();

    static native void cancelRaise(long cancel);

    static native boolean cancelIsRaised(long cancel);

    static native void cancelFree(long cancel);

    static native long datasetNew();

    static native void datasetAdd(
            long dataset,
            Object pixels,
            boolean direct,
            int dtype,
            long offset,
            int height,
            int width,
            int channels,
            long rowStride,
            long columnStride,
            long channelStride,
            int[] labels,
            int encoding,
            int labelHeight,
            int labelWidth);

    static native void datasetAddPolygons(
            long dataset,
            Object pixels,
            boolean direct,
            int dtype,
            long offset,
            int height,
            int width,
            int channels,
            long rowStride,
            long columnStride,
            long channelStride,
            double[] points,
            int[] ringLengths,
            int[] ringCounts,
            int[] kinds);

    static native void datasetSetClasses(long dataset, int index, int[] ids, int[] classes);

    static native void datasetSetPixelSize(long dataset, int index, double height, double width);

    static native int datasetSize(long dataset);

    static native String datasetAdvice(long dataset);

    static native void datasetFree(long dataset);

    static native long modelNew(String algorithm, String config, long seed);

    static native long modelLoad(String path);

    /** {@code config} may be null. Returns notes as a JSON array. */
    static native String convert(String source, String target, String config);

    static native void modelSave(long model, String path);

    static native void modelReset(long model, long seed);

    static native String modelInfo(long model);

    static native String modelHistory(long model);

    static native String modelLastTraining(long model);

    /** Fills {@code summary}: steps, seconds, seconds per step, loss, stop reason. Returns all of it as JSON. */
    static native String modelTrain(
            long model,
            long dataset,
            long validation,
            String options,
            long cancel,
            Observer observer,
            double[] summary);

    static native String chooseAlgorithm(long dataset, String options, long cancel);

    static native long modelPredict(
            long model,
            Object pixels,
            boolean direct,
            int dtype,
            long offset,
            int height,
            int width,
            int channels,
            long rowStride,
            long columnStride,
            long channelStride,
            String options,
            long cancel);

    /**
     * {@code path} or {@code size} (rows, columns, channels, sample type) is null. Returns the summary as JSON.
     *
     * @param pixelSize height and width, 0 where they are not known
     * @param writes whether {@code parts} takes labels
     */
    static native String modelPredictLarge(
            long model,
            String path,
            int[] size,
            double[] pixelSize,
            String options,
            long cancel,
            boolean writes,
            Parts parts);

    static native void modelFree(long model);

    static native long samLoad(String path, String options);

    static native String samInfo(long sam);

    /** {@code view} and the result: first row, first column, rows, columns. */
    static native int[] samPart(long sam, int height, int width, int[] view, String prompts);

    static native long samMasks(
            long sam,
            Object pixels,
            boolean direct,
            int dtype,
            long offset,
            int height,
            int width,
            int channels,
            long rowStride,
            long columnStride,
            long channelStride,
            String prompts,
            String options,
            long cancel);

    static native void samFree(long sam);

    /** Height and width. */
    static native int[] segmentationShape(long segmentation);

    static native int[] segmentationLabels(long segmentation);

    static native int segmentationObjectCount(long segmentation);

    /** Fills {@code object}: id, probability, class. Returns the number of points. */
    static native int segmentationObject(long segmentation, int index, double[] object);

    static native double[] segmentationPolygon(long segmentation, int index);

    static native String segmentationGeojson(long segmentation, String options);

    static native long segmentationOutlines(long segmentation, String options);

    static native String segmentationNotes(long segmentation);

    static native void segmentationFree(long segmentation);

    static native String labelsGeojson(int[] labels, int encoding, int height, int width, String options);

    static native long labelsOutlines(int[] labels, int encoding, int height, int width, String options);

    /** Numbers of rings and of points. */
    static native int[] outlinesSize(long outlines);

    /** Fills {@code rings}: id, part, hole, first point, points of each. Returns the points. */
    static native double[] outlinesCopy(long outlines, int[] rings);

    static native void outlinesFree(long outlines);

    static native int[] polygonsToLabels(
            double[] points, int[] ringLengths, int[] ringCounts, int[] kinds, int height, int width);

    /** thresh, fp, tp, fn, precision, recall, accuracy, f1, n_true, n_pred, and the three mean scores. */
    static native double[] matching(
            int[] truth, int truthHeight, int truthWidth, int[] predicted, int height, int width, double thresh);

    /** For each threshold what {@link #matching} gives; the images lie one after the other, {@code sizes} are rows, columns. */
    static native double[] matchingDataset(
            int[] truths, int[] predictions, int[] sizes, double[] thresholds, boolean byImage);

    /** Panics on purpose; missing in libraries without debug assertions. */
    static native void testPanic();
}
