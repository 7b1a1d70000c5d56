package io.github.cellsparse;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.Color;
import java.awt.Rectangle;
import java.awt.geom.Area;
import java.awt.geom.Ellipse2D;
import java.awt.geom.Line2D;
import java.awt.geom.Path2D;
import java.awt.image.BufferedImage;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Images, labels, polygons and outlines. */
class DataTest {
    private static final Polygon.Kind FOREGROUND = Polygon.Kind.FOREGROUND;
    private static final Polygon.Kind BACKGROUND = Polygon.Kind.BACKGROUND;

    @Test
    void allKindsOfPixelsGiveTheSameLabels() {
        byte[] bytes = Fields.pixels();
        int side = Fields.SIDE;
        short[] shorts = new short[bytes.length];
        float[] floats = new float[bytes.length];
        BufferedImage grey = new BufferedImage(side, side, BufferedImage.TYPE_BYTE_GRAY);
        BufferedImage deep = new BufferedImage(side, side, BufferedImage.TYPE_USHORT_GRAY);
        BufferedImage color = new BufferedImage(side, side, BufferedImage.TYPE_INT_ARGB);
        ByteBuffer direct = ByteBuffer.allocateDirect(2 * bytes.length + 6).order(ByteOrder.nativeOrder());
        // Bottom-up 16-bit rows after a header of six bytes.
        direct.position(6);
        for (int i = 0; i < bytes.length; i++) {
            int value = bytes[i] & 255;
            int y = i / side;
            int x = i % side;
            shorts[i] = (short) value;
            floats[i] = value;
            grey.getRaster().setSample(x, y, 0, value);
            deep.getRaster().setSample(x, y, 0, value);
            color.setRGB(x, y, new Color(7, value, 9, 128).getRGB());
            direct.putShort(6 + 2 * i, (short) value);
        }
        List<Image> images = List.of(
                Image.of(shorts, side, side, 1),
                Image.of(floats, side, side, 1),
                Image.of(grey),
                Image.of(deep),
                Image.of(color, 1),
                Image.of(direct, Image.SampleType.UINT16, side, side, 1),
                Image.of(direct, Image.SampleType.UINT16, side, side, 1, 2L * side, 2, 2));
        PredictOptions options = PredictOptions.builder().probThresh(0.01).build();
        try (Model model = Fields.trained();
                Segmentation expected = model.predict(Fields.image(), options)) {
            assertTrue(expected.objectCount() > 0);
            for (Image image : images) {
                try (Segmentation found = model.predict(image, options)) {
                    assertArrayEquals(expected.labels(), found.labels(), image.type() + " " + images.indexOf(image));
                }
            }
        }
        assertEquals(3, Image.of(color).channels(), "transparency is left out");
        assertEquals(Image.SampleType.UINT16, Image.of(deep).type());
        BufferedImage indexed = new BufferedImage(2, 2, BufferedImage.TYPE_BYTE_BINARY);
        assertEquals(3, Image.of(indexed).channels());
    }

    @Test
    void wrongSizesAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> Image.of(new byte[5], 2, 3, 1));
        assertThrows(IllegalArgumentException.class, () -> Image.of(new byte[6], -2, -3, 1));
        assertThrows(IllegalArgumentException.class, () -> Image.of(new float[0], Integer.MAX_VALUE, Integer.MAX_VALUE, 4));
        assertThrows(IllegalArgumentException.class,
                () -> Image.of(ByteBuffer.allocate(6), Image.SampleType.UINT8, 2, 3, 1));
        assertThrows(IllegalArgumentException.class,
                () -> Image.of(ByteBuffer.allocateDirect(5), Image.SampleType.UINT8, 2, 3, 1));
        assertThrows(IllegalArgumentException.class, () -> Labels.of(new int[5], 2, 3));
        assertThrows(NullPointerException.class, () -> Image.of((byte[]) null, 1, 1, 1));
        BufferedImage grey = new BufferedImage(2, 2, BufferedImage.TYPE_BYTE_GRAY);
        assertThrows(IllegalArgumentException.class, () -> Image.of(grey, 1));
        assertThrows(IllegalArgumentException.class, () -> Image.of(grey, new int[0]));
        ByteBuffer buffer = ByteBuffer.allocateDirect(6).order(ByteOrder.nativeOrder());
        Image reachesOut = Image.of(buffer, Image.SampleType.UINT8, 2, 3, 1, 4, 1, 1);
        try (Dataset data = new Dataset()) {
            Labels labels = Labels.of(new int[] {1, 0, -1, 0, 0, 0}, 2, 3);
            assertThrows(IllegalArgumentException.class, () -> data.add(reachesOut, labels));
            assertThrows(CellsparseException.Image.class, () -> data.add(Image.of(new byte[0], 0, 3, 1), labels));
            assertEquals(0, data.size());
        }
    }

    @Test
    void polygonsAndShapesBecomeLabels() {
        Area ring = new Area(new Rectangle(0, 0, 3, 3));
        ring.subtract(new Area(new Rectangle(1, 1, 1, 1)));
        List<Polygon> polygons = List.of(
                Polygon.of(FOREGROUND, ring),
                Polygon.of(BACKGROUND, new double[] {1, 1, 5, 1, 5, 2, 1, 2}),
                Polygon.of(FOREGROUND, new double[] {2, 2, 4, 2, 4, 3, 2, 3}));
        int[] expected = {1, 1, 1, -1, -1, -1, 1, 0, 1, 0, 0, -1, 1, 1, 2, 2, -1, -1};
        assertArrayEquals(expected, Labels.draw(polygons, 3, 6));
        assertArrayEquals(new int[] {-1, -1}, Labels.draw(List.of(), 1, 2));
        int[] disc = Labels.draw(List.of(Polygon.of(FOREGROUND, new Ellipse2D.Double(2, 2, 20, 20))), 24, 24);
        long area = java.util.Arrays.stream(disc).filter(value -> value == 1).count();
        assertEquals(Math.PI * 100, area, 6);
        Path2D triangles = new Path2D.Double();
        triangles.moveTo(4, 4);
        for (int side : new int[] {4, -4}) {
            triangles.lineTo(4 + side, 4);
            triangles.lineTo(4 + side, 4 + side);
            triangles.closePath();
        }
        List<double[]> rings = Polygon.of(FOREGROUND, triangles).rings();
        assertArrayEquals(new double[] {4, 4, 8, 4, 8, 8}, rings.get(0));
        assertArrayEquals(new double[] {4, 4, 0, 4, 0, 0}, rings.get(1), "a closed ring ends where it began");
        assertThrows(IllegalArgumentException.class, () -> Polygon.of(FOREGROUND, new Line2D.Double(0, 0, 5, 5)));
        assertThrows(IllegalArgumentException.class, () -> Polygon.of(FOREGROUND, new double[] {0, 0, 1, 1}));
        assertThrows(IllegalArgumentException.class, () -> Polygon.of(FOREGROUND));
        Polygon wild = Polygon.of(FOREGROUND, new double[] {0, Double.NaN, 1, 1, 2, 0});
        assertThrows(CellsparseException.Labels.class, () -> Labels.draw(List.of(wild), 3, 3));
        assertThrows(IllegalArgumentException.class, () -> Labels.draw(polygons, -1, 3));
        assertThrows(IllegalArgumentException.class, () -> Labels.draw(polygons, Integer.MAX_VALUE, 3));
    }

    @Test
    void polygonsTrainAsTheirLabelImage() {
        List<Polygon> polygons = List.of(
                Polygon.of(FOREGROUND, new Ellipse2D.Double(6, 6, 12, 12)),
                Polygon.of(FOREGROUND, new Ellipse2D.Double(23, 26, 14, 14)),
                Polygon.of(BACKGROUND, new Ellipse2D.Double(2, 2, 20, 20)));
        int[] drawn = Labels.draw(polygons, Fields.SIDE, Fields.SIDE);
        try (Dataset first = new Dataset().add(Fields.image(), Labels.of(polygons));
                Dataset second = new Dataset().add(Fields.image(), Labels.of(drawn, Fields.SIDE, Fields.SIDE));
                Model one = Model.create(Algorithm.STARDIST, Fields.TINY);
                Model two = Model.create(Algorithm.STARDIST, Fields.TINY)) {
            assertEquals(one.train(first, Fields.SHORT).loss(), two.train(second, Fields.SHORT).loss());
            first.setClasses(0, Map.of(1, 2));
            assertThrows(CellsparseException.Labels.class, () -> first.setClasses(0, Map.of(9, 1)));
            assertThrows(IllegalArgumentException.class, () -> first.setClasses(3, Map.of(1, 1)));
            assertThrows(IllegalArgumentException.class, () -> first.setClasses(0, Map.of(1, -1)));
            int[] ids = {1, 2};
            assertThrows(IllegalArgumentException.class,
                    () -> Native.datasetSetClasses(first.token(), 0, ids, new int[] {1}));
            assertTrue(first.advice().size() > 0);
        }
    }

    @Test
    void outlinesKeepHolesAndParts() {
        int[] labels = {7, 7, 7, 0, 7, 7, 0, 7, 0, 0, 7, 7, 7, 3, 0};
        List<Outline> outlines = LabelImages.outlines(labels, 3, 5, OutlineOptions.exact());
        assertEquals(List.of(3, 7), outlines.stream().map(Outline::id).toList());
        Outline ring = outlines.get(1);
        assertEquals(2, ring.parts().size());
        assertEquals(1, ring.parts().get(0).holes().size());
        int[] back = Labels.draw(List.of(Polygon.of(FOREGROUND, outlines.get(0).toShape()),
                Polygon.of(FOREGROUND, ring.toShape())), 3, 5);
        int[] expected = java.util.Arrays.stream(labels).map(v -> v == 3 ? 1 : v == 7 ? 2 : -1).toArray();
        assertArrayEquals(expected, back);
        String literal = LabelImages.toGeoJson(new int[] {0, 0, 0, 7}, 2, 2, OutlineOptions.literal());
        assertEquals("[{\"type\":\"Feature\",\"geometry\":{\"type\":\"Polygon\",\"coordinates\":[[[1.0,1.5],[0.5,1.0],"
                + "[1.0,0.5],[1.5,1.0],[1.0,1.5]]]},\"properties\":{\"object_idx\":0,\"label\":\"object\"}}]", literal);
        assertEquals(0, LabelImages.outlines(new int[] {0, 0, 0, 7}, 2, 2, OutlineOptions.literal().simplified(2))
                .get(0).parts().size());
    }

    @Test
    void scoresAreThoseOfStarDist() {
        int[] truth = {1, 1, 0, 2, 2, -1};
        int[] predicted = {5, 5, 0, 0, 0, 3};
        LabelImages.Scores scores = LabelImages.matching(truth, predicted, 1, 6, 0.5);
        assertEquals(1, scores.tp());
        assertEquals(1, scores.fn());
        assertEquals(0, scores.fp());
        assertEquals(2.0 / 3, scores.f1(), 1e-12);
        assertEquals(0.5, scores.meanTrueScore(), 1e-12);
        assertThrows(IllegalArgumentException.class, () -> LabelImages.matching(truth, predicted, 2, 6, 0.5));
        int[] size = {1, 6};
        double[] thresholds = {0.5, 0.9};
        List<LabelImages.Scores> both = LabelImages.matchingDataset(
                List.of(truth, truth), List.of(predicted, new int[6]), List.of(size, size), thresholds, false);
        assertEquals(List.of(0.5, 0.9), List.of(both.get(0).thresh(), both.get(1).thresh()));
        assertEquals(List.of(1L, 3L, 0L), List.of(both.get(0).tp(), both.get(0).fn(), both.get(0).fp()));
        assertEquals(1.0 / 3, LabelImages.matchingDataset(List.of(truth, truth), List.of(predicted, new int[6]),
                List.of(size, size), thresholds, true).get(0).f1(), 1e-12, "the mean of the images' scores");
        assertThrows(IllegalArgumentException.class, () -> LabelImages.matchingDataset(
                List.of(truth), List.of(), List.of(size), thresholds, false));
        assertThrows(CellsparseException.Labels.class, () -> LabelImages.matchingDataset(
                List.of(), List.of(), List.of(), thresholds, false));
    }
}
