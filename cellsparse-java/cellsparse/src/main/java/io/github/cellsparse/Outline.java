package io.github.cellsparse;

import java.awt.geom.Path2D;
import java.util.ArrayList;
import java.util.List;

/** The outline of one object of a label image: its parts, each an outer ring with holes. */
public final class Outline {
    /** One connected piece: closed rings {@code x, y, x, y, ...} (first point = last point). */
    public static final class Part {
        private final List<double[]> rings;

        Part(List<double[]> rings) {
            this.rings = List.copyOf(rings);
        }

        /** The outer ring. */
        public double[] exterior() {
            return rings.get(0);
        }

        /** The rings of the holes. */
        public List<double[]> holes() {
            return rings.subList(1, rings.size());
        }
    }

    private final int id;
    private final List<Part> parts;

    private Outline(int id, List<Part> parts) {
        this.id = id;
        this.parts = List.copyOf(parts);
    }

    /** The object's value in the label image. */
    public int id() {
        return id;
    }

    /** Its parts in raster order. */
    public List<Part> parts() {
        return parts;
    }

    /** The outline as a shape with the even-odd rule. */
    public Path2D toShape() {
        Path2D path = new Path2D.Double(Path2D.WIND_EVEN_ODD);
        for (Part part : parts) {
            for (double[] ring : part.rings) {
                path.moveTo(ring[0], ring[1]);
                for (int i = 2; i + 3 < ring.length; i += 2) {
                    path.lineTo(ring[i], ring[i + 1]);
                }
                path.closePath();
            }
        }
        return path;
    }

    /** Reads and frees outlines of the native library, in increasing id. */
    static List<Outline> take(long handle) {
        try {
            int[] rings = new int[5 * Native.outlinesSize(handle)[0]];
            double[] points = Native.outlinesCopy(handle, rings);
            List<Outline> outlines = new ArrayList<>();
            int at = 0;
            while (at < rings.length) {
                int id = rings[at];
                List<Part> parts = new ArrayList<>();
                while (at < rings.length && rings[at] == id) {
                    int part = rings[at + 1];
                    List<double[]> own = new ArrayList<>();
                    for (; at < rings.length && rings[at] == id && rings[at + 1] == part; at += 5) {
                        int first = 2 * rings[at + 3];
                        double[] ring = java.util.Arrays.copyOfRange(points, first, first + 2 * rings[at + 4]);
                        if (ring.length > 0) {
                            own.add(ring);
                        }
                    }
                    if (!own.isEmpty()) {
                        parts.add(new Part(own));
                    }
                }
                outlines.add(new Outline(id, parts));
            }
            return List.copyOf(outlines);
        } finally {
            Native.outlinesFree(handle);
        }
    }
}
