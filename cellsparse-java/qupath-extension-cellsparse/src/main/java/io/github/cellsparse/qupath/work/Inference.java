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
        check(slide, areas);
        List<Job> jobs = jobs(areas.isEmpty() ? List.of(whole) : areas, whole, downsample, settings);
        Seams seams = new Seams();
        int cut = 0;
        double tolerance = Seams.TOLERANCE * downsample;
        monitor.message("Segmenting " + slide.name());
        monitor.tiles(0, jobs.size());
        for (int i = 0; i < jobs.size(); i++) {
            monitor.check();
            Job job = jobs.get(i);
            Part part = Part.read(slide, job.tile.read(), downsample);
            for (Found local : segmenter.segment(part)) {
                Found found = part.place(local);
                if ((areas.isEmpty() || job.holds(found)) && job.owns(found, tolerance, whole)) {
                    seams.add(found, i, job.isAlone(found, tolerance));
                    cut += isCut(local, part) ? 1 : 0;
                }
            }
            monitor.tiles(i + 1, jobs.size());
        }
        if (cut > 0) {
            monitor.warn(cut + (cut == 1 ? " object reaches" : " objects reach") + " across the tiles and may be cut; raise the overlap above the size of the "
                    + "objects (it is " + settings.overlap + " pixels)");
        }
        return seams.merged(monitor);
    }

    /** Whether every area, or the whole slide without areas, is one tile. */
    static boolean isOneTileEach(Slide slide, List<Shape> areas, Settings settings) throws Failure {
        Rectangle whole = new Rectangle(slide.width(), slide.height());
        List<Shape> wanted = areas.isEmpty() ? List.of(whole) : areas;
        return jobs(wanted, whole, settings.downsample(slide), settings).size() <= wanted.size();
    }

    /** Refuses areas that have no pixel of a slide. */
    static void check(Slide slide, List<Shape> areas) throws Failure {
        Rectangle whole = new Rectangle(slide.width(), slide.height());
        for (Shape area : areas) {
            if (area.getBounds().intersection(whole).isEmpty()) {
                throw new Failure("a selected region (" + text(area.getBounds()) + ") lies outside the image '" + slide.name()
                        + "' of " + slide.width() + " x " + slide.height() + " pixels; select one inside");
            }
        }
    }

    private static List<Job> jobs(List<Shape> areas, Rectangle whole, double downsample, Settings settings) {
        List<Rectangle> reaches = new ArrayList<>();
        List<List<Tiles.Tile>> covers = new ArrayList<>();
        for (Shape area : areas) {
            List<Tiles.Tile> tiles = new ArrayList<>();
            Rectangle reach = new Rectangle(-1, -1);
            for (Tiles.Tile tile : Tiles.cover(area.getBounds().intersection(whole), whole.width, whole.height, downsample,
                    settings.tileSize, settings.overlap)) {
                if (area.intersects(tile.own())) {
                    tiles.add(tile);
                    reach = reach.union(tile.own());
                }
            }
            covers.add(tiles);
            reaches.add(reach);
        }
        List<Job> jobs = new ArrayList<>();
        int tolerance = (int) Math.ceil(Seams.TOLERANCE * downsample);
        for (int a = 0; a < covers.size(); a++) {
            for (Tiles.Tile tile : covers.get(a)) {
                Rectangle around = new Rectangle(tile.own());
                around.grow(tolerance, tolerance);
                boolean shared = false;
                for (int b = 0; b < reaches.size() && !shared; b++) {
                    shared = b != a && reaches.get(b).intersects(around);
                }
                jobs.add(new Job(tile, areas.get(a), shared));
            }
        }
        return jobs;
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

    /**
     * A tile of an area.
     *
     * @param shared whether tiles of other areas own pixels of it too
     */
    private record Job(Tiles.Tile tile, Shape area, boolean shared) {
        /** Whether the centre of an object lies in the area. */
        boolean holds(Found found) {
            double[] center = found.center();
            return area.contains(center[0], center[1]);
        }

        boolean owns(Found found, double tolerance, Rectangle slide) {
            double[] center = found.center();
            Rectangle own = tile.own();
            // Nothing lies beyond the border of the slide, so a tile there keeps what a rounding moves over it.
            double left = own.x == 0 ? Double.NEGATIVE_INFINITY : own.x - tolerance;
            double top = own.y == 0 ? Double.NEGATIVE_INFINITY : own.y - tolerance;
            double right = own.x + own.width >= slide.width ? Double.POSITIVE_INFINITY : own.x + own.width + tolerance;
            double bottom = own.y + own.height >= slide.height ? Double.POSITIVE_INFINITY : own.y + own.height + tolerance;
            return center[0] >= left && center[0] < right && center[1] >= top && center[1] < bottom;
        }

        /** Whether an object keeps away from all that other tiles own. */
        boolean isAlone(Found found, double tolerance) {
            Rectangle own = tile.own();
            Rectangle2D box = found.shape().getBounds2D();
            return !shared && box.getMinX() >= own.x + tolerance && box.getMaxX() <= own.x + own.width - tolerance
                    && box.getMinY() >= own.y + tolerance && box.getMaxY() <= own.y + own.height - tolerance;
        }
    }
}
