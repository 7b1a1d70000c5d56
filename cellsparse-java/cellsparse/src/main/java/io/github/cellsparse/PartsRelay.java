package io.github.cellsparse;

import java.io.IOException;
import java.io.UncheckedIOException;

/** Turns questions of the native library about the parts of an image into those of the public interfaces. */
final class PartsRelay implements Native.Parts {
    private final RegionSource source;
    private final LargeOptions options;

    PartsRelay(RegionSource source, LargeOptions options) {
        this.source = source;
        this.options = options;
    }

    @Override
    public byte[] read(int level, int top, int left, int height, int width) {
        Image part;
        try {
            part = source.read(top, left, height, width);
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
        if (part.height != height || part.width != width || part.channels != source.channels() || part.type != source.type()) {
            throw new CellsparseException.Image("the part of " + height + " x " + width + " pixels at row " + top + ", column " + left
                    + " came as " + part.height + " x " + part.width + " pixels with " + part.channels + " channels of " + part.type
                    + "; " + source.channels() + " of " + source.type() + " were expected");
        }
        return part.packed();
    }

    @Override
    public void write(int top, int left, int height, int width, int[] labels) {
        try {
            options.labels.write(top, left, height, width, labels);
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }

    @Override
    public boolean progress(String phase, long done, long total, double elapsed, double remaining) {
        return options.listener == null
                || options.listener.onPart(new LargeProgress(phase, done, total, elapsed, remaining));
    }
}
