package io.github.cellsparse.qupath.work;

import java.awt.Rectangle;
import java.util.ArrayList;
import java.util.List;

/**
 * Cuts an area of a slide into tiles. The own areas of the tiles cover the area without overlapping; each is read with a
 * margin around it, inside the slide. All in full-resolution pixels.
 */
final class Tiles {
    /** Tiles begin at multiples of this many pixels, so that a network lays its grid over each as over the whole slide. */
    private static final int GRID = 32;

    private Tiles() {}

    /**
     * One tile.
     *
     * @param own objects whose centre lies here belong to the tile
     * @param read what is read
     */
    record Tile(Rectangle own, Rectangle read) {}

    /** Tiles of at most about {@code size} pixels at a resolution, with {@code overlap} pixels of context. */
    static List<Tile> cover(Rectangle area, int slideWidth, int slideHeight, double downsample, int size, int overlap) {
        int margin = roundUp(overlap);
        int step = Math.max(GRID, (size - 2 * margin) / GRID * GRID);
        List<int[]> columns = axis(area.x, area.x + area.width, slideWidth, downsample, size, step, margin);
        List<int[]> rows = axis(area.y, area.y + area.height, slideHeight, downsample, size, step, margin);
        List<Tile> tiles = new ArrayList<>();
        for (int[] row : rows) {
            for (int[] column : columns) {
                tiles.add(new Tile(
                        new Rectangle(column[0], row[0], column[1] - column[0], row[1] - row[0]),
                        new Rectangle(column[2], row[2], column[3] - column[2], row[3] - row[2])));
            }
        }
        return tiles;
    }

    /** Spans {own begin, own end, read begin, read end} along one axis. */
    private static List<int[]> axis(int begin, int end, int length, double downsample, int size, int step, int margin) {
        int last = (int) Math.ceil(length / downsample - 1e-9);
        int from = (int) Math.floor(begin / downsample) / GRID * GRID;
        int to = Math.min(last, (int) Math.ceil(end / downsample));
        List<int[]> spans = new ArrayList<>();
        boolean single = Math.min(last, to + margin) - Math.max(0, from - margin) <= size;
        for (int at = from; at < to; at += step) {
            int next = single ? to : Math.min(to, at + step);
            int readBegin = Math.max(0, at - margin);
            int readEnd = Math.min(last, next + margin);
            spans.add(new int[] {
                full(at, length, last, downsample), full(next, length, last, downsample),
                full(readBegin, length, last, downsample), full(readEnd, length, last, downsample)
            });
            if (next == to) {
                break;
            }
        }
        return spans;
    }

    private static int full(int pixel, int length, int last, double downsample) {
        return pixel >= last ? length : (int) Math.min(length, Math.round(pixel * downsample));
    }

    private static int roundUp(int pixels) {
        return (pixels + GRID - 1) / GRID * GRID;
    }
}
