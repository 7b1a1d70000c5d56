package io.github.cellsparse;

import java.io.IOException;

/**
 * An image of which any part can be read, so that it need not fit into the memory. It is asked on the thread that called
 * {@link Model#predictLarge}, one part at a time; parts overlap.
 */
public interface RegionSource {
    /** Rows, at least 1. */
    int height();

    /** Columns, at least 1. */
    int width();

    /** Channels of every part, at least 1. */
    int channels();

    /** The type of the samples of every part. */
    Image.SampleType type();

    /** Micrometres per pixel, height and width; null where they are not known. */
    default double[] pixelSize() {
        return null;
    }

    /**
     * The pixels of a part, which lies within the image.
     *
     * @param top first row
     * @param left first column
     * @throws IOException if they cannot be had, which ends the segmentation
     */
    Image read(int top, int left, int height, int width) throws IOException;
}
