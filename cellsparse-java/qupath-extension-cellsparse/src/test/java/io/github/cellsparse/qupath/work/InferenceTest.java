package io.github.cellsparse.qupath.work;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeout;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.cellsparse.Algorithm;
import io.github.cellsparse.LabelImages;
import io.github.cellsparse.Outline;
import io.github.cellsparse.OutlineOptions;
import java.awt.Rectangle;
import java.awt.Shape;
import java.awt.geom.Area;
import java.awt.geom.Ellipse2D;
import java.awt.geom.Path2D;
import java.awt.geom.Rectangle2D;
import java.awt.image.DataBuffer;
import java.awt.image.Raster;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Deque;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Places, tiles and seams, with bright connected pixels as objects. */
class InferenceTest {
    private static Settings.Builder settings() {
        return Settings.builder(Algorithm.STARDIST);
    }

    /** Finds the parts of a picture above 100. */
    static List<Found> bright(Part part) {
        Raster raster = part.picture().getRaster();
        int width = raster.getWidth();
        int height = raster.getHeight();
        int[] labels = new int[width * height];
        int next = 0;
        Deque<Integer> open = new ArrayDeque<>();
        for (int start = 0; start < labels.length; start++) {
            if (labels[start] != 0 || raster.getSample(start % width, start / width, 0) < 100) {
                continue;
            }
            labels[start] = ++next;
            open.add(start);
            while (!open.isEmpty()) {
                int at = open.pop();
                for (int[] step : new int[][] {{1, 0}, {-1, 0}, {0, 1}, {0, -1}}) {
                    int x = at % width + step[0];
                    int y = at / width + step[1];
                    if (x >= 0 && y >= 0 && x < width && y < height && labels[y * width + x] == 0
                            && raster.getSample(x, y, 0) >= 100) {
                        labels[y * width + x] = next;
                        open.add(y * width + x);
                    }
                }
            }
        }
        List<Found> found = new ArrayList<>();
        for (Outline outline : LabelImages.outlines(labels, height, width, OutlineOptions.exact())) {
            found.add(new Found(outline.toShape(), 0.5));
        }
        return found;
    }

    private static List<Rectangle2D> boxes(List<Found> found) {
        return found.stream().map(one -> one.shape().getBounds2D())
                .sorted(Comparator.comparingDouble(Rectangle2D::getY).thenComparingDouble(Rectangle2D::getX)).toList();
    }

    @Test
    void objectsLieWhereTheyAreAtEveryResolution() throws Exception {
        Rectangle first = new Rectangle(40, 60, 30, 20);
        Rectangle second = new Rectangle(310, 200, 40, 50);
        DrawnSlide slide = new DrawnSlide(401, 303, 1, DataBuffer.TYPE_BYTE).fill(first, 150).fill(second, 150);
        for (double downsample : new double[] {1, 2, 2.5, 5}) {
            Settings settings = settings().downsample(downsample).build();
            List<Rectangle2D> boxes =
                    boxes(Inference.run(slide, List.of(), settings, InferenceTest::bright, new Watch()));
            assertEquals(2, boxes.size());
            // The slide's sides are no multiple of the downsample: a pixel of the picture is a little off from it.
            double tolerance = downsample == 1 ? 0 : downsample;
            for (int i = 0; i < 2; i++) {
                Rectangle2D expected = i == 0 ? first : second;
                String what = downsample + ": " + boxes.get(i);
                assertEquals(expected.getMinX(), boxes.get(i).getMinX(), tolerance, what);
                assertEquals(expected.getMinY(), boxes.get(i).getMinY(), tolerance, what);
                assertEquals(expected.getMaxX(), boxes.get(i).getMaxX(), tolerance, what);
                assertEquals(expected.getMaxY(), boxes.get(i).getMaxY(), tolerance, what);
            }
        }
        DrawnSlide even = new DrawnSlide(400, 300, 1, DataBuffer.TYPE_USHORT).fill(first, 150).fill(second, 150);
        for (double downsample : new double[] {1, 2, 2.5, 10}) {
            Settings settings = settings().downsample(downsample).build();
            assertEquals(List.of(first, second), boxes(Inference.run(even, List.of(), settings,
                    part -> bright(new Part(part.area(), part.slideBounds(), scaled(part))), new Watch())), "" + downsample);
        }
    }

    /** 16 bit values as 8 bit ones. */
    private static java.awt.image.BufferedImage scaled(Part part) {
        var picture = part.picture();
        var small = new java.awt.image.BufferedImage(
                picture.getWidth(), picture.getHeight(), java.awt.image.BufferedImage.TYPE_BYTE_GRAY);
        for (int y = 0; y < picture.getHeight(); y++) {
            for (int x = 0; x < picture.getWidth(); x++) {
                small.getRaster().setSample(x, y, 0, picture.getRaster().getSample(x, y, 0) / 50);
            }
        }
        return small;
    }

    @Test
    void tilesFindWhatTheWholeSlideHas() throws Exception {
        // Discs of 20 pixels every 27 lie on every kind of seam and corner of tiles.
        DrawnSlide slide = new DrawnSlide(700, 500, 1, DataBuffer.TYPE_BYTE).grid(27, 20);
        Watch watch = new Watch();
        List<Found> tiled = Inference.run(
                slide, List.of(), settings().tileSize(192).overlap(32).build(), InferenceTest::bright, watch);
        assertTrue(watch.tiles > 12 && slide.largest() <= 192 * 192, watch.tiles + " tiles, " + slide.largest());
        List<Found> whole = Inference.run(slide, List.of(), settings().build(), InferenceTest::bright, new Watch());
        assertEquals(slide.discs().size(), whole.size());
        assertEquals(boxes(whole), boxes(tiled));
        assertEquals(List.of(), watch.warnings);
        Watch cutting = new Watch();
        slide.fill(new Rectangle(10, 490, 600, 8), 150);
        Inference.run(slide, List.of(), settings().tileSize(192).overlap(32).build(), InferenceTest::bright, cutting);
        assertTrue(cutting.warnings.get(0).contains("overlap"), cutting.warnings.toString());
    }

    @Test
    void objectsThatTwoTilesSeeDifferentlyAreKeptOnce() throws Exception {
        DrawnSlide slide = new DrawnSlide(700, 500, 1, DataBuffer.TYPE_BYTE).grid(27, 20);
        // Every tile sees everything moved by its own few pixels, as networks may at the rim of their context.
        int[] count = {0};
        List<Found> found = Inference.run(slide, List.of(), settings().tileSize(192).overlap(32).build(), part -> {
            double by = count[0]++ % 2 == 0 ? 2.5 : -2.5;
            return bright(part).stream().map(one -> one.moved(1, 1, by, -by)).toList();
        }, new Watch());
        assertEquals(slide.discs().size(), found.size());
    }

    @Test
    void oneObjectAsLargeAsATileLeavesTheOthersQuick() throws Exception {
        Seams seams = new Seams();
        // 90,000 small objects of one tile, and a comb of another tile that covers a fifth of each of 2,500.
        for (int i = 0; i < 90_000; i++) {
            seams.add(square(20 * (i % 300), 20 * (i / 300), 10, 0.5), 0, i % 300 > 30);
        }
        Path2D comb = new Path2D.Double(Path2D.WIND_EVEN_ODD);
        comb.moveTo(-1, -1);
        for (int x = 0; x < 1000; x += 20) {
            for (int[] point : new int[][] {{x, 990}, {x + 8, 990}, {x + 8, -1}, {x + 20, -1}}) {
                comb.lineTo(point[0], point[1]);
            }
        }
        comb.lineTo(1000, 999);
        comb.lineTo(-1, 999);
        comb.closePath();
        seams.add(new Found(comb, 0.1), 1, false);
        List<Found> merged = assertTimeout(Duration.ofSeconds(20), () -> seams.merged(new Watch()));
        assertEquals(90_001, merged.size());
        Watch stopped = new Watch();
        stopped.token().cancel();
        assertThrows(Stopped.class, () -> seams.merged(stopped));
    }

    @Test
    void innerObjectsAreComparedWithThoseThatReachThem() throws Exception {
        Found small = square(50, 50, 10, 0.9);
        Found large = square(0, 0, 200, 0.5);
        for (boolean first : new boolean[] {true, false}) {
            Seams seams = new Seams();
            seams.add(first ? small : large, first ? 0 : 1, first);
            seams.add(first ? large : small, first ? 1 : 0, !first);
            assertEquals(List.of(small), seams.merged(new Watch()));
        }
        Seams apart = new Seams();
        apart.add(square(0, 0, 10, 0.5), 0, false);
        apart.add(square(6, 0, 10, 0.5), 1, false);
        apart.add(square(0, 0, 10, 0.4), 0, false);
        assertEquals(3, apart.merged(new Watch()).size(), "they share less than half, or a tile");
        assertEquals(List.of(), new Seams().merged(new Watch()));
    }

    private static Found square(double x, double y, double side, double probability) {
        return new Found(new Path2D.Double(new Rectangle2D.Double(x, y, side, side)), probability);
    }

    @Test
    void regionsBoundTheWork() throws Exception {
        DrawnSlide slide = new DrawnSlide(3000, 2000, 1, DataBuffer.TYPE_BYTE)
                .disc(100, 100, 20).disc(1500, 1000, 20).disc(1540, 1000, 20).disc(2900, 1900, 20);
        Settings settings = settings().tileSize(256).overlap(32).build();
        Shape region = new Ellipse2D.Double(1480, 980, 60, 60);
        List<Found> found = Inference.run(slide, List.of(region), settings, InferenceTest::bright, new Watch());
        assertEquals(List.of(new Rectangle2D.Double(1500, 1000, 20, 20)), boxes(found));
        assertTrue(slide.reads() <= 4, "only tiles of the region are read");
        Shape overlapping = new Rectangle(1400, 900, 200, 200);
        assertEquals(2, Inference.run(
                slide, List.of(region, overlapping), settings, InferenceTest::bright, new Watch()).size());
        Failure outside = assertThrows(Failure.class, () -> Inference.run(
                slide, List.of(new Rectangle(3100, 0, 50, 50)), settings, InferenceTest::bright, new Watch()));
        assertTrue(outside.getMessage().contains("outside") && outside.getMessage().contains("3000 x 2000"));
    }

    @Test
    void regionsReachOutOfTheImageAndHaveHolesAndParts() throws Exception {
        DrawnSlide slide = new DrawnSlide(300, 200, 1, DataBuffer.TYPE_BYTE).grid(27, 12);
        List<Rectangle2D> whole =
                boxes(Inference.run(slide, List.of(), settings().build(), InferenceTest::bright, new Watch()));
        assertEquals(slide.discs().size(), whole.size());
        Area odd = new Area(new Ellipse2D.Double(-30, -30, 200, 200));
        odd.subtract(new Area(new Rectangle(40, 40, 60, 60)));
        odd.add(new Area(new Rectangle(220, 120, 300, 300)));
        for (Shape region : List.of(new Rectangle(-20, -20, 120, 120), new Ellipse2D.Double(30, 30, 150, 90), odd)) {
            List<Rectangle2D> inside =
                    whole.stream().filter(box -> region.contains(box.getCenterX(), box.getCenterY())).toList();
            assertTrue(inside.size() > 3 && inside.size() < whole.size());
            for (int tileSize : new int[] {128, 1024}) {
                Settings settings = settings().tileSize(tileSize).overlap(32).build();
                assertEquals(inside, boxes(Inference.run(
                        slide, List.of(region), settings, InferenceTest::bright, new Watch())));
            }
        }
    }

    @Test
    void aStopEndsBetweenTiles() throws Exception {
        DrawnSlide slide = new DrawnSlide(700, 500, 1, DataBuffer.TYPE_BYTE).grid(27, 20);
        Watch watch = new Watch();
        watch.stopAtTile = 2;
        assertThrows(Stopped.class, () -> Inference.run(
                slide, List.of(), settings().tileSize(192).overlap(32).build(), InferenceTest::bright, watch));
        assertEquals(2, watch.tiles);
        assertEquals(List.of("Segmenting drawn"), watch.messages, "a message between tiles would reset the progress");
    }

    @Test
    void resolutionsComeFromTheSettings() throws Exception {
        DrawnSlide slide = new DrawnSlide(100, 80, 2, DataBuffer.TYPE_USHORT);
        assertEquals(1, settings().build().downsample(slide));
        assertEquals(3, settings().downsample(3).pixelSize(1).build().downsample(slide));
        Failure unknown = assertThrows(Failure.class, () -> settings().pixelSize(0.5).build().downsample(slide));
        assertTrue(unknown.getMessage().contains("no pixel size"));
        assertEquals(2, settings().pixelSize(0.5).build().downsample(slide.pixelSize(0.25)));
        assertThrows(Failure.class, () -> settings().channels(2).build().channels(slide));
        assertEquals(2, settings().build().channels(slide).length);
    }
}
