package io.github.cellsparse.qupath.work;

import java.awt.Rectangle;
import java.awt.geom.Rectangle2D;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/**
 * The parts of a slide to train on, at full resolution. Every drawn object lies whole, with a margin, in one of them; a small
 * slide is one part. Background that lies far from all objects is taken with the nearest part if that stays small.
 *
 * @param parts rectangles inside the slide
 * @param unused background drawings that lie in none of them
 */
record Crops(List<Rectangle> parts, int unused) {
    /** A slide of up to this many pixels at the working resolution is one part; far background may make up as much of a part. */
    private static final double WHOLE = 1024.0 * 1024.0;
    /** Two parts become one if that has at most this much more area than both. */
    private static final double WASTE = 1.2;

    /** Plans the parts for patches of {@code patch} pixels at a resolution. */
    static Crops plan(int width, int height, List<Drawing> drawings, double downsample, int patch) {
        Rectangle slide = new Rectangle(0, 0, width, height);
        if (area(slide) <= WHOLE * downsample * downsample) {
            return new Crops(List.of(slide), 0);
        }
        List<Rectangle> parts = new ArrayList<>();
        for (Drawing drawing : drawings) {
            if (drawing.isForeground() && bounds(drawing).intersects(slide)) {
                parts.add(around(bounds(drawing), slide, downsample, patch));
            }
        }
        merge(parts);
        int unused = 0;
        for (Drawing drawing : drawings) {
            Rectangle bounds = bounds(drawing).intersection(slide);
            if (drawing.isForeground() || bounds.isEmpty() || parts.stream().anyMatch(bounds::intersects)) {
                continue;
            }
            Rectangle joined = parts.stream().map(bounds::union).min(Comparator.comparingDouble(Crops::area)).orElse(null);
            if (joined == null || area(joined) > WHOLE * downsample * downsample) {
                unused++;
                continue;
            }
            parts.removeIf(joined::contains);
            parts.add(joined);
        }
        merge(parts);
        return new Crops(List.copyOf(parts), unused);
    }

    /** A drawing's pixels: even a point has one. */
    static Rectangle bounds(Drawing drawing) {
        Rectangle2D box = drawing.shape().getBounds2D();
        int x = (int) Math.floor(box.getMinX());
        int y = (int) Math.floor(box.getMinY());
        return new Rectangle(x, y, Math.max(1, (int) Math.ceil(box.getMaxX()) - x), Math.max(1, (int) Math.ceil(box.getMaxY()) - y));
    }

    /** A box with half a patch around it, and not smaller than a patch, where the slide allows. */
    private static Rectangle around(Rectangle box, Rectangle slide, double downsample, int patch) {
        int margin = (int) Math.ceil(patch * downsample / 2);
        int[] columns = stretch(box.x - margin, box.x + box.width + margin, slide.width);
        int[] rows = stretch(box.y - margin, box.y + box.height + margin, slide.height);
        return new Rectangle(columns[0], rows[0], columns[1] - columns[0], rows[1] - rows[0]);
    }

    /** Moves a span into {@code 0..size}; what is cut on one side is added on the other. */
    private static int[] stretch(int begin, int end, int size) {
        int length = Math.min(end - begin, size);
        int from = Math.max(0, Math.min(begin, size - length));
        return new int[] {from, from + length};
    }

    private static void merge(List<Rectangle> parts) {
        boolean changed = true;
        while (changed) {
            changed = false;
            for (int i = 0; i < parts.size(); i++) {
                for (int j = parts.size() - 1; j > i; j--) {
                    Rectangle one = parts.get(i);
                    Rectangle other = parts.get(j);
                    Rectangle both = one.union(other);
                    if (one.intersects(other)
                            && area(both) <= WASTE * (area(one) + area(other) - area(one.intersection(other)))) {
                        parts.set(i, both);
                        parts.remove(j);
                        changed = true;
                    }
                }
            }
        }
    }

    private static double area(Rectangle rectangle) {
        return (double) rectangle.width * rectangle.height;
    }
}
