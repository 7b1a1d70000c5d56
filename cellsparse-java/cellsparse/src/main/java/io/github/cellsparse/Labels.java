package io.github.cellsparse;

import java.util.List;
import java.util.Objects;

/**
 * Sparse labels of one image, as a label image or as polygons. Unlabelled pixels are ignored by every loss.
 */
public final class Labels {
    /** What the values of a label image mean. */
    public enum Encoding {
        /** Below 0 unlabelled, 0 background, 1 and up objects. */
        SIGNED(0),
        /** 0 unlabelled, 1 background, 2 and up objects. */
        WIRE(1),
        /** 0 background, 1 and up objects, nothing unlabelled. */
        DENSE(2),
        /** 0 unlabelled, 1 and up objects, no background. */
        CELLS(3);

        final int code;

        Encoding(int code) {
            this.code = code;
        }
    }

    final int[] values;
    final int height;
    final int width;
    final Encoding encoding;
    final List<Polygon> polygons;

    private Labels(int[] values, int height, int width, Encoding encoding, List<Polygon> polygons) {
        this.values = values;
        this.height = height;
        this.width = width;
        this.encoding = encoding;
        this.polygons = polygons;
    }

    /**
     * A label image, row by row: below 0 unlabelled, 0 background, 1 and up objects. Not copied before it is used.
     *
     * @throws IllegalArgumentException if the array has not {@code height * width} values
     */
    public static Labels of(int[] values, int height, int width) {
        return of(values, height, width, Encoding.SIGNED);
    }

    /**
     * A label image, row by row, in any encoding. Not copied before it is used.
     *
     * @throws IllegalArgumentException if the array has not {@code height * width} values
     */
    public static Labels of(int[] values, int height, int width, Encoding encoding) {
        checkSize(values, height, width);
        return new Labels(values, height, width, Objects.requireNonNull(encoding, "encoding"), null);
    }

    /**
     * Drawn polygons: each foreground polygon is one object, background polygons are background, and everything else is
     * unlabelled. Foreground wins over background, and a later foreground polygon over an earlier one; what lies outside the
     * image is cut off.
     */
    public static Labels of(List<Polygon> polygons) {
        return new Labels(null, 0, 0, null, List.copyOf(polygons));
    }

    /**
     * Draws polygons as training does: -1 unlabelled, 0 background, the foreground polygons 1, 2, ... in their order; row by
     * row.
     *
     * @throws CellsparseException.Labels if a polygon is unusable
     */
    public static int[] draw(List<Polygon> polygons, int height, int width) {
        NativeLibrary.require();
        if (height < 0 || width < 0) {
            throw new IllegalArgumentException("a size is negative: " + height + " x " + width);
        }
        Polygon.Flat flat = new Polygon.Flat(polygons);
        return Native.polygonsToLabels(flat.points, flat.ringLengths, flat.ringCounts, flat.kinds, height, width);
    }

    static void checkSize(int[] values, int height, int width) {
        if (height < 0 || width < 0 || (long) height * width != values.length) {
            throw new IllegalArgumentException(
                    "the array has " + values.length + " values; " + height + " x " + width + " pixels need as many");
        }
    }
}
