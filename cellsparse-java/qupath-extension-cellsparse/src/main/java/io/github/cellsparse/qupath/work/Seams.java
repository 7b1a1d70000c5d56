package io.github.cellsparse.qupath.work;

import java.awt.geom.Area;
import java.awt.geom.PathIterator;
import java.awt.geom.Rectangle2D;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Collects the objects of tiles. Each object belongs to the tile that its centre lies in. Two tiles may see an object at a
 * seam a little differently, so each keeps objects up to {@link #TOLERANCE} beyond its own area too, and of two objects of
 * different tiles that cover one another the one with the lower probability is dropped.
 */
final class Seams {
    /** How far the centres of one object in two tiles may differ, in pixels of the working resolution. */
    static final double TOLERANCE = 8;
    /** Share of the smaller object from which two are the same. */
    private static final double SAME = 0.5;

    private final List<Found> objects = new ArrayList<>();
    private final List<Integer> tiles = new ArrayList<>();

    void add(Found found, int tile) {
        objects.add(found);
        tiles.add(tile);
    }

    /** The objects, each once. */
    List<Found> merged() {
        double cell = 1;
        for (Found found : objects) {
            Rectangle2D bounds = found.shape().getBounds2D();
            cell = Math.max(cell, Math.max(bounds.getWidth(), bounds.getHeight()));
        }
        Map<Long, List<Integer>> grid = new HashMap<>();
        Set<Integer> dropped = new HashSet<>();
        for (int i = 0; i < objects.size(); i++) {
            double[] center = objects.get(i).center();
            int column = (int) Math.floor(center[0] / cell);
            int row = (int) Math.floor(center[1] / cell);
            for (int dy = -1; dy <= 1; dy++) {
                for (int dx = -1; dx <= 1; dx++) {
                    for (int j : grid.getOrDefault(key(column + dx, row + dy), List.of())) {
                        if (!tiles.get(i).equals(tiles.get(j)) && !dropped.contains(i) && !dropped.contains(j)
                                && same(objects.get(i), objects.get(j))) {
                            dropped.add(objects.get(i).probability() > objects.get(j).probability() ? j : i);
                        }
                    }
                }
            }
            grid.computeIfAbsent(key(column, row), unused -> new ArrayList<>()).add(i);
        }
        List<Found> kept = new ArrayList<>();
        for (int i = 0; i < objects.size(); i++) {
            if (!dropped.contains(i)) {
                kept.add(objects.get(i));
            }
        }
        return kept;
    }

    private static long key(int column, int row) {
        return ((long) column << 32) ^ (row & 0xffffffffL);
    }

    private static boolean same(Found one, Found other) {
        if (!one.shape().getBounds2D().intersects(other.shape().getBounds2D())) {
            return false;
        }
        Area first = new Area(one.shape());
        Area second = new Area(other.shape());
        double smaller = Math.min(size(first), size(second));
        first.intersect(second);
        return size(first) > SAME * smaller;
    }

    /** The area of a shape of straight lines; holes run the other way round. */
    static double size(Area area) {
        double sum = 0;
        double[] point = new double[6];
        double startX = 0;
        double startY = 0;
        double x = 0;
        double y = 0;
        for (PathIterator path = area.getPathIterator(null); !path.isDone(); path.next()) {
            int segment = path.currentSegment(point);
            double nextX = segment == PathIterator.SEG_CLOSE ? startX : point[0];
            double nextY = segment == PathIterator.SEG_CLOSE ? startY : point[1];
            if (segment == PathIterator.SEG_MOVETO) {
                startX = nextX;
                startY = nextY;
            } else {
                sum += x * nextY - nextX * y;
            }
            x = nextX;
            y = nextY;
        }
        return Math.abs(sum) / 2;
    }
}
