package io.github.cellsparse.qupath.work;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.cellsparse.Polygon;
import java.awt.Rectangle;
import java.awt.Shape;
import java.awt.geom.Line2D;
import java.awt.geom.Path2D;
import java.awt.image.DataBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Which parts of a slide are read, and what is drawn in them. */
class GeometryTest {
    private static Drawing cell(Shape shape) {
        return new Drawing(Polygon.Kind.FOREGROUND, Drawing.Form.AREA, shape);
    }

    private static Drawing ground(Shape shape) {
        return new Drawing(Polygon.Kind.BACKGROUND, Drawing.Form.AREA, shape);
    }

    @Test
    void aSmallSlideIsOnePart() {
        List<Drawing> drawings = List.of(cell(new Rectangle(5, 5, 9, 9)));
        assertEquals(List.of(new Rectangle(1024, 1024)), Crops.plan(1024, 1024, drawings, 1, 224).parts());
        assertEquals(List.of(new Rectangle(3000, 2500)), Crops.plan(3000, 2500, drawings, 3, 224).parts());
    }

    @Test
    void everyCellIsWholeInAPartWithAMargin() {
        List<Drawing> drawings = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            drawings.add(cell(new Rectangle(i * 977 % 9000, i * 1531 % 7000, 30 + i, 25)));
        }
        for (double downsample : new double[] {1, 2.5}) {
            Crops crops = Crops.plan(9050, 7050, drawings, downsample, 64);
            int margin = (int) (32 * downsample);
            for (Drawing drawing : drawings) {
                Rectangle wanted = Crops.bounds(drawing);
                wanted.grow(margin, margin);
                Rectangle inside = wanted.intersection(new Rectangle(9050, 7050));
                assertTrue(crops.parts().stream().anyMatch(part -> part.contains(inside)), inside.toString());
            }
            long read = crops.parts().stream().mapToLong(part -> (long) part.width * part.height).sum();
            assertTrue(crops.parts().size() > 5 && read < 9050L * 7050 / 5, crops.toString());
            crops.parts().forEach(part -> assertTrue(new Rectangle(9050, 7050).contains(part)));
        }
        List<Drawing> near = List.of(cell(new Rectangle(4000, 4000, 20, 20)), cell(new Rectangle(4010, 4030, 20, 20)));
        assertEquals(1, Crops.plan(9000, 9000, near, 1, 64).parts().size());
    }

    @Test
    void farBackgroundIsJoinedOrCounted() {
        Drawing cell = cell(new Rectangle(4000, 4000, 20, 20));
        Crops joined = Crops.plan(30000, 9000, List.of(cell, ground(new Rectangle(4600, 4000, 50, 50))), 1, 64);
        assertEquals(0, joined.unused());
        assertEquals(1, joined.parts().size());
        assertTrue(joined.parts().get(0).contains(new Rectangle(4600, 4000, 50, 50)));
        Crops far = Crops.plan(30000, 9000, List.of(cell, ground(new Rectangle(25000, 4000, 50, 50))), 1, 64);
        assertEquals(1, far.unused());
        assertEquals(1, far.parts().size());
    }

    @Test
    void tilesOwnEveryPixelOnceAndReadMore() {
        for (double downsample : new double[] {1, 2, 1.7}) {
            Rectangle area = new Rectangle(333, 100, 2000, 1500);
            List<Tiles.Tile> tiles = Tiles.cover(area, 4000, 3000, downsample, 512, 64);
            assertTrue(tiles.size() > 3);
            int[] owners = new int[2000 * 1500];
            for (Tiles.Tile tile : tiles) {
                assertTrue(tile.read().contains(tile.own()));
                assertTrue(new Rectangle(4000, 3000).contains(tile.read()));
                assertTrue(tile.read().width <= Math.ceil(512 * downsample) + 1, tile.toString());
                Rectangle context = new Rectangle(tile.own());
                context.grow((int) (63 * downsample), (int) (63 * downsample));
                assertTrue(tile.read().contains(context.intersection(new Rectangle(4000, 3000))), tile.toString());
                Rectangle own = tile.own().intersection(area);
                for (int y = own.y - area.y; y < own.y - area.y + own.height; y++) {
                    for (int x = own.x - area.x; x < own.x - area.x + own.width; x++) {
                        owners[y * 2000 + x]++;
                    }
                }
            }
            assertTrue(Arrays.stream(owners).allMatch(owner -> owner == 1), "downsample " + downsample);
        }
        assertEquals(1, Tiles.cover(new Rectangle(700, 700, 200, 200), 4000, 3000, 1, 1024, 128).size());
    }

    @Test
    void drawingsBecomeLabels() throws Exception {
        DrawnSlide slide = new DrawnSlide(40, 30, 1, DataBuffer.TYPE_BYTE);
        Path2D points = new Path2D.Double();
        points.moveTo(30.5, 2.5);
        points.lineTo(30.5, 2.5);
        points.moveTo(35.2, 4.9);
        points.lineTo(35.2, 4.9);
        List<Drawing> drawings = List.of(
                cell(new Rectangle(4, 4, 6, 4)),
                ground(new Rectangle(2, 2, 12, 10)),
                new Drawing(Polygon.Kind.BACKGROUND, Drawing.Form.LINE, new Line2D.Double(20, 10.5, 30, 10.5)),
                new Drawing(Polygon.Kind.BACKGROUND, Drawing.Form.POINTS, points),
                cell(new Rectangle(-3, 20, 6, 4)));
        LabelMap labels = LabelMap.draw(drawings, Part.read(slide, new Rectangle(40, 30), 1));
        assertEquals(2, labels.objects());
        assertEquals(24, count(labels, 1));
        assertEquals(12, count(labels, 2), "the border of the slide cuts a cell, which stays a cell");
        assertEquals(120 - 24 + 10 + 2, count(labels, 0));
        assertEquals(1, labels.values()[5 * 40 + 5], "foreground wins");
        assertEquals(0, labels.values()[2 * 40 + 30]);

        LabelMap half = LabelMap.draw(drawings, Part.read(slide, new Rectangle(40, 30), 2));
        assertEquals(20, half.width());
        assertEquals(6, count(half, 1));

        LabelMap cut = LabelMap.draw(drawings, Part.read(slide, new Rectangle(6, 0, 34, 30), 1));
        assertEquals(0, cut.objects(), "a cell that reaches out of the part is unlabelled there");
        assertEquals(0, count(cut, 1));
        assertEquals(-1, cut.values()[5 * 34]);

        Failure failure = assertThrows(Failure.class, () -> LabelMap.draw(
                List.of(new Drawing(Polygon.Kind.FOREGROUND, Drawing.Form.LINE, new Line2D.Double(1, 1, 9, 9))),
                Part.read(slide, new Rectangle(40, 30), 1)));
        assertTrue(failure.getMessage().contains("line") && failure.getMessage().contains("whole cell"));
    }

    @Test
    void namesOfModelsAreFileNames() throws Exception {
        for (String name : List.of("default", "nuclei v2", "Zellkerne_ä.1", "constant")) {
            ModelStore.checkName(name);
        }
        for (String name : List.of("", "../x", "a/b", "a\\b", "c:d", ".hidden", "-x", "x.", "x ", "CON", "nul.txt", "lpt1",
                "a\nb", "x".repeat(101))) {
            String message = assertThrows(Failure.class, () -> ModelStore.checkName(name)).getMessage();
            assertTrue(message.contains("name of a model"), message);
        }
        Settings settings = Settings.builder(io.github.cellsparse.Algorithm.STARDIST).model(" x ").build();
        assertEquals("x", settings.model);
        assertFalse(settings.isRemote());
        assertThrows(Failure.class, () -> Settings.builder(settings.algorithm).tileSize(256).overlap(128).build());
        assertThrows(Failure.class, () -> Settings.builder(settings.algorithm).steps(-1).build());
        String neither = assertThrows(Failure.class, () -> Settings.builder(settings.algorithm).timeBudget(0).build()).getMessage();
        assertTrue(neither.contains("neither training time nor steps"), neither);
        Settings remote = Settings.builder(settings.algorithm).timeBudget(0).serverUrl("http://localhost:8000/stardist/").build();
        assertEquals(List.of(200, 8, 224),
                List.of(remote.serverSteps(), remote.serverBatchSize(), remote.serverPatchSize()));
        assertThrows(Failure.class, () -> Settings.builder(settings.algorithm).downsample(Double.NaN).build());
    }

    private static long count(LabelMap labels, int value) {
        return Arrays.stream(labels.values()).filter(v -> v == value).count();
    }
}
