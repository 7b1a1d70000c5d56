package io.github.cellsparse.qupath.work;

import io.github.cellsparse.Image;
import java.awt.image.BufferedImage;
import java.awt.image.Raster;

/** Some channels of a part of a slide as floats: rows first, channel last. */
record Samples(float[] values, int height, int width, int channels) {
    /** Copies channels of a picture, their values unchanged. */
    static Samples of(BufferedImage picture, int[] channels) throws Failure {
        Raster raster = picture.getRaster();
        int height = picture.getHeight();
        int width = picture.getWidth();
        long size = (long) height * width * channels.length;
        if (size > Integer.MAX_VALUE - 8) {
            throw new Failure("a part of the image has " + height + " x " + width + " pixels of " + channels.length
                    + " channels, more than an array can hold; choose a coarser resolution or smaller tiles");
        }
        for (int channel : channels) {
            if (channel >= raster.getNumBands()) {
                throw new Failure("channel " + (channel + 1) + " is chosen; the pixels that were read have "
                        + raster.getNumBands());
            }
        }
        float[] values = new float[(int) size];
        float[] row = new float[width];
        for (int i = 0; i < channels.length; i++) {
            for (int y = 0; y < height; y++) {
                raster.getSamples(raster.getMinX(), raster.getMinY() + y, width, 1, channels[i], row);
                int place = y * width * channels.length + i;
                for (int x = 0; x < width; x++, place += channels.length) {
                    values[place] = row[x];
                }
            }
        }
        return new Samples(values, height, width, channels.length);
    }

    /** The same at another size, the nearest sample everywhere: servers round sizes in their own ways. */
    Samples resized(int rows, int columns) {
        if (rows == height && columns == width) {
            return this;
        }
        float[] nearest = new float[rows * columns * channels];
        for (int y = 0; y < rows; y++) {
            int fromY = (int) ((y + 0.5) * height / rows);
            for (int x = 0; x < columns; x++) {
                int fromX = (int) ((x + 0.5) * width / columns);
                System.arraycopy(values, (fromY * width + fromX) * channels, nearest, (y * columns + x) * channels, channels);
            }
        }
        return new Samples(nearest, rows, columns, channels);
    }

    Image image() {
        return Image.of(values, height, width, channels);
    }
}
