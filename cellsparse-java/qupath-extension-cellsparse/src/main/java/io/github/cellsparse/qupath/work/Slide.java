package io.github.cellsparse.qupath.work;

import java.awt.image.BufferedImage;
import java.io.IOException;

/** One plane of an image of any size, read in parts. */
public interface Slide extends AutoCloseable {
    /** What messages call the image. */
    String name();

    /** Columns at full resolution. */
    int width();

    /** Rows at full resolution. */
    int height();

    /** Channels; 3 for a colour image, whose transparency does not count. */
    int channels();

    /** Whether the channels are red, green and blue of a colour picture. */
    boolean isRgb();

    /** Side of a full-resolution pixel in micrometres, or NaN if that is not known. */
    double pixelSize();

    /**
     * Pixels of a rectangle given at full resolution, reduced by {@code downsample}: about {@code width / downsample} columns.
     *
     * @throws IOException if they cannot be read
     */
    BufferedImage read(double downsample, int x, int y, int width, int height) throws IOException;

    /** Frees what reading needed. */
    @Override
    default void close() throws IOException {}
}
