package io.github.cellsparse;

import java.awt.Shape;
import java.awt.geom.PathIterator;
import java.util.ArrayList;
import java.util.List;

/**
 * A drawn polygon: one whole object, or background. A pixel belongs to it when its centre does, by the even-odd rule over
 * all rings; so holes are further rings, and several parts of one object too.
 */
public final class Polygon {
    /** What a polygon says about its pixels. */
    public enum Kind {
        /** One whole object. */
        FOREGROUND(1),
        /** Background. */
        BACKGROUND(2);

        final int code;

        Kind(int code) {
            this.code = code;
        }
    }

    private final Kind kind;
    private final double[][] rings;

    private Polygon(Kind kind, double[][] rings) {
        this.kind = kind;
        this.rings = rings;
    }

    /**
     * A polygon of rings {@code x, y, x, y, ...} in pixel-corner coordinates; rings need not be closed.
     *
     * @throws IllegalArgumentException if a ring has fewer than three points or an odd number of values
     */
    public static Polygon of(Kind kind, double[]... rings) {
        double[][] copies = new double[rings.length][];
        for (int i = 0; i < rings.length; i++) {
            if (rings[i].length < 6 || rings[i].length % 2 != 0) {
                throw new IllegalArgumentException("a ring has " + rings[i].length
                        + " values; expected x, y of at least three points");
            }
            copies[i] = rings[i].clone();
        }
        if (rings.length == 0) {
            throw new IllegalArgumentException("a polygon needs at least one ring");
        }
        return new Polygon(java.util.Objects.requireNonNull(kind, "kind"), copies);
    }

    /**
     * The area of a shape, its curves flattened to a tenth of a pixel. The shape is taken by the even-odd rule.
     *
     * @throws IllegalArgumentException if the shape has no area, as a line or a point
     */
    public static Polygon of(Kind kind, Shape shape) {
        List<double[]> rings = new ArrayList<>();
        List<Double> ring = new ArrayList<>();
        double[] point = new double[6];
        double[] start = new double[2];
        for (PathIterator path = shape.getPathIterator(null, 0.1); !path.isDone(); path.next()) {
            int segment = path.currentSegment(point);
            if (segment == PathIterator.SEG_LINETO) {
                // After a close without a move, the next ring begins where the closed one did.
                if (ring.isEmpty()) {
                    ring.add(start[0]);
                    ring.add(start[1]);
                }
                ring.add(point[0]);
                ring.add(point[1]);
                continue;
            }
            addRing(rings, ring);
            if (segment == PathIterator.SEG_MOVETO) {
                start = point.clone();
                ring.add(point[0]);
                ring.add(point[1]);
            }
        }
        addRing(rings, ring);
        if (rings.isEmpty()) {
            throw new IllegalArgumentException("the shape has no area; draw a polygon, an ellipse or a brush stroke");
        }
        return of(kind, rings.toArray(new double[0][]));
    }

    /** What it says about its pixels. */
    public Kind kind() {
        return kind;
    }

    /** Its rings, each {@code x, y, x, y, ...}; copies. */
    public List<double[]> rings() {
        List<double[]> copies = new ArrayList<>();
        for (double[] ring : rings) {
            copies.add(ring.clone());
        }
        return copies;
    }

    private static void addRing(List<double[]> rings, List<Double> ring) {
        if (ring.size() >= 6) {
            rings.add(ring.stream().mapToDouble(Double::doubleValue).toArray());
        }
        ring.clear();
    }

    /** Polygons in the form of the native library. */
    static final class Flat {
        final double[] points;
        final int[] ringLengths;
        final int[] ringCounts;
        final int[] kinds;

        Flat(List<Polygon> polygons) {
            ringCounts = polygons.stream().mapToInt(polygon -> polygon.rings.length).toArray();
            kinds = polygons.stream().mapToInt(polygon -> polygon.kind.code).toArray();
            List<double[]> rings = new ArrayList<>();
            polygons.forEach(polygon -> rings.addAll(List.of(polygon.rings)));
            ringLengths = rings.stream().mapToInt(ring -> ring.length / 2).toArray();
            points = rings.stream().flatMapToDouble(java.util.Arrays::stream).toArray();
        }
    }
}
