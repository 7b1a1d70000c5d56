package io.github.cellsparse.qupath.work;

import java.awt.geom.Area;
import java.awt.geom.PathIterator;
import java.awt.geom.Rectangle2D;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Collects the objects of tiles. Each object belongs to the tile that its centre lies in. Two tiles may see an object at a
 * seam a little differently, so each keeps objects up to {@link #TOLERANCE} beyond its own area too, and of two objects of
 * different tiles that cover one another the one with the lower probability is dropped.
 */
final class Seams {
    /** How far the centres of one object in two tiles may differ, in pixels of the working resolution. */
    static final double TOLERANCE = 8;
    /** Fraction of the smaller object from which two are the same. */
    private static final double SAME = 0.5;
    /** Cells of the grid along the largest object, at most: bounds what it takes among many small ones. */
    private static final double MOST_CELLS = 32;

    private final List<Found> objects = new ArrayList<>();
    private final List<Rectangle2D> boxes = new ArrayList<>();
    private final List<Integer> tiles = new ArrayList<>();
    /** Objects that reach to what other tiles own. Two that do not cannot cover one another. */
    private final BitSet near = new BitSet();

    /**
     * Adds an object.
     *
     * @param inner whether its box lies {@link #TOLERANCE} away from all that other tiles own
     */
    void add(Found found, int tile, boolean inner) {
        near.set(objects.size(), !inner);
        objects.add(found);
        boxes.add(found.shape().getBounds2D());
        tiles.add(tile);
    }

    /** The objects, each once. */
    List<Found> merged(Monitor monitor) throws Stopped {
        double side = side();
        Map<Long, List<Integer>> grid = new HashMap<>();
        for (int i = near.nextSetBit(0); i >= 0; i = near.nextSetBit(i + 1)) {
            monitor.check();
            for (long cell : cells(boxes.get(i), side)) {
                grid.computeIfAbsent(cell, unused -> new ArrayList<>()).add(i);
            }
        }
        BitSet dropped = new BitSet();
        int[] comparedWith = new int[objects.size()];
        Arrays.fill(comparedWith, -1);
        for (int i = 0; i < objects.size(); i++) {
            for (long cell : cells(boxes.get(i), side)) {
                for (int j : grid.getOrDefault(cell, List.of())) {
                    // Of two objects near seams the later one finds the earlier.
                    if ((j < i || !near.get(i)) && comparedWith[j] != i) {
                        comparedWith[j] = i;
                        monitor.check();
                        compare(i, j, dropped);
                    }
                }
            }
        }
        List<Found> kept = new ArrayList<>();
        for (int i = dropped.nextClearBit(0); i < objects.size(); i = dropped.nextClearBit(i + 1)) {
            kept.add(objects.get(i));
        }
        return kept;
    }

    private void compare(int i, int j, BitSet dropped) {
        if (!tiles.get(i).equals(tiles.get(j)) && !dropped.get(i) && !dropped.get(j) && same(i, j)) {
            int later = Math.max(i, j);
            int earlier = Math.min(i, j);
            dropped.set(objects.get(later).probability() > objects.get(earlier).probability() ? earlier : later);
        }
    }

    /** Side of the cells of the grid: most objects lie in a few cells, and a cell holds few of them. */
    private double side() {
        double[] sides = boxes.stream().mapToDouble(box -> Math.max(box.getWidth(), box.getHeight())).sorted().toArray();
        return sides.length == 0 ? 1 : Math.max(1, Math.max(2 * sides[sides.length / 2], sides[sides.length - 1] / MOST_CELLS));
    }

    private static long[] cells(Rectangle2D box, double side) {
        int left = (int) Math.floor(box.getMinX() / side);
        int top = (int) Math.floor(box.getMinY() / side);
        int columns = (int) Math.floor(box.getMaxX() / side) - left + 1;
        int rows = (int) Math.floor(box.getMaxY() / side) - top + 1;
        long[] cells = new long[columns * rows];
        for (int k = 0; k < cells.length; k++) {
            cells[k] = ((long) (left + k % columns) << 32) ^ (top + k / columns & 0xffffffffL);
        }
        return cells;
    }

    private boolean same(int i, int j) {
        if (!boxes.get(i).intersects(boxes.get(j)) || !touches(i, j) || !touches(j, i)) {
            return false;
        }
        // One that lies inside the other, which is the smaller one then: no areas of what may have thousands of edges.
        if (objects.get(i).shape().contains(boxes.get(j)) || objects.get(j).shape().contains(boxes.get(i))) {
            return true;
        }
        Area first = new Area(objects.get(i).shape());
        Area second = new Area(objects.get(j).shape());
        double smaller = Math.min(size(first), size(second));
        first.intersect(second);
        return size(first) > SAME * smaller;
    }

    private boolean touches(int i, int j) {
        return objects.get(i).shape().intersects(boxes.get(j));
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
