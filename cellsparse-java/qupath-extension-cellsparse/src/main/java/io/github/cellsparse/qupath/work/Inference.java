package io.github.cellsparse.qupath.work;

import java.awt.Rectangle;
import java.awt.Shape;
import java.awt.geom.Rectangle2D;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** Segments areas of a slide tile by tile; nothing but the objects is kept between tiles. */
final class Inference {
    private Inference() {}

    /**
     * The objects of some areas of a slide, at full resolution. An object belongs to an area that holds the centre of its
     * bounding box.
     *
     * @param areas what to segment; none means the whole slide
     */
    static List<Found> run(Slide slide, List<Shape> areas, Settings settings, Segmenter segmenter, Monitor monitor)
            throws IOException, Failure {
        double downsample = settings.downsample(slide);
        Rectangle whole = new Rectangle(slide.width(), slide.height());
        List<Job> jobs = new ArrayList<>();
        for (Shape area : areas.isEmpty() ? List.<Shape>of(whole) : areas) {
            Rectangle bounds = area.getBounds().intersection(whole);
            if (bounds.isEmpty()) {
                throw new Failure("a selected region (" + text(area.getBounds()) + ") lies outside the image '" + slide.name()
                        + "' of " + slide.width() + " x " + slide.height() + " pixels; select one inside");
            }
            for (Tiles.Tile tile : Tiles.cover(
                    bounds, whole.width, whole.height, downsample, settings.tileSize, settings.overlap)) {
                if (area.intersects(tile.own())) {
                    jobs.add(new Job(tile, area, areas.isEmpty()));
                }
            }
        }
        Seams seams = new Seams();
        int cut = 0;
        double tolerance = Seams.TOLERANCE * downsample;
        for (int i = 0; i < jobs.size(); i++) {
            monitor.check();
            monitor.message("Segmenting " + slide.name() + (jobs.size() > 1 ? ", tile " + (i + 1) + " of " + jobs.size() : ""));
            Job job = jobs.get(i);
            Part part = Part.read(slide, job.tile.read(), downsample);
            for (Found local : segmenter.segment(part)) {
                Found found = part.place(local);
                if (job.owns(found, tolerance, whole)) {
                    seams.add(found, i);
                    cut += isCut(local, part) ? 1 : 0;
                }
            }
            monitor.tiles(i + 1, jobs.size());
        }
        if (cut > 0) {
            monitor.warn(cut + " object(s) reach across the tiles and may be cut; raise the overlap above the size of the "
                    + "objects (it is " + settings.overlap + " pixels)");
        }
        return seams.merged();
    }

    private static String text(Rectangle box) {
        return "x=" + box.x + ", y=" + box.y + ", " + box.width + " x " + box.height;
    }

    /** Whether an object touches a border of its picture where the slide goes on. */
    private static boolean isCut(Found local, Part part) {
        Rectangle2D box = local.shape().getBounds2D();
        Rectangle area = part.area();
        Rectangle slide = part.slideBounds();
        return box.getMinX() <= 0 && area.x > 0
                || box.getMinY() <= 0 && area.y > 0
                || box.getMaxX() >= part.picture().getWidth() && area.x + area.width < slide.width
                || box.getMaxY() >= part.picture().getHeight() && area.y + area.height < slide.height;
    }

    private record Job(Tiles.Tile tile, Shape area, boolean wholeSlide) {
        boolean owns(Found found, double tolerance, Rectangle slide) {
            double[] center = found.center();
            if (!wholeSlide && !area.contains(center[0], center[1])) {
                return false;
            }
            Rectangle own = tile.own();
            // Nothing lies beyond the border of the slide, so a tile there keeps what a rounding moves over it.
            double left = own.x == 0 ? Double.NEGATIVE_INFINITY : own.x - tolerance;
            double top = own.y == 0 ? Double.NEGATIVE_INFINITY : own.y - tolerance;
            double right = own.x + own.width >= slide.width ? Double.POSITIVE_INFINITY : own.x + own.width + tolerance;
            double bottom = own.y + own.height >= slide.height ? Double.POSITIVE_INFINITY : own.y + own.height + tolerance;
            return center[0] >= left && center[0] < right && center[1] >= top && center[1] < bottom;
        }
    }
}
