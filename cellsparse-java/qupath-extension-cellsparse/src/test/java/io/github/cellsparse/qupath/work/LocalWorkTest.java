package io.github.cellsparse.qupath.work;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.cellsparse.Algorithm;
import io.github.cellsparse.Dataset;
import io.github.cellsparse.Image;
import io.github.cellsparse.Labels;
import io.github.cellsparse.Model;
import io.github.cellsparse.ModelOptions;
import io.github.cellsparse.Polygon;
import io.github.cellsparse.Segmentation;
import io.github.cellsparse.TrainOptions;
import java.awt.Rectangle;
import java.awt.Shape;
import java.awt.geom.Ellipse2D;
import java.awt.geom.Rectangle2D;
import java.awt.image.BufferedImage;
import java.awt.image.DataBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Training and segmenting in this process, with a small network put where the model is kept. */
class LocalWorkTest {
    @TempDir
    Path folder;

    private ModelStore store;

    @BeforeEach
    void openStore() {
        store = ModelStore.ofProject(folder);
    }

    private static Settings.Builder settings() {
        return settings(Algorithm.STARDIST);
    }

    private static Settings.Builder settings(Algorithm algorithm) {
        return Settings.builder(algorithm).steps(80).batchSize(2).patchSize(64).learningRate(0.005).threads(1);
    }

    /** A small untrained network under the name {@code default}. */
    private void small(int channels) throws Exception {
        try (Model model = Model.create(Algorithm.STARDIST, ModelOptions.builder().channels(channels).set("n_rays", 16)
                .set("n_filter_base", 8).set("n_depth", 2).set("net_conv_after_unet", 16).build())) {
            model.save(store.writable(Algorithm.STARDIST, "default"));
        }
        try (Model model = Model.create(Algorithm.ELEPHANT,
                ModelOptions.builder().channels(channels).set("widths", List.of(8, 16, 32)).build())) {
            model.save(store.writable(Algorithm.ELEPHANT, "default"));
        }
    }

    /** Every disc has an object whose middle is near its own, and there are no others. */
    private static void assertFound(List<Ellipse2D> discs, List<Found> found, double tolerance) {
        assertEquals(discs.size(), found.size(), found.stream().map(one -> Arrays.toString(one.center())).toList().toString());
        for (Ellipse2D disc : discs) {
            Found nearest = found.stream().min(java.util.Comparator.comparingDouble(one -> distance(one, disc))).get();
            assertTrue(distance(nearest, disc) < tolerance, disc.getBounds() + " " + Arrays.toString(nearest.center()));
            Rectangle2D box = nearest.shape().getBounds2D();
            assertEquals(disc.getWidth(), box.getWidth(), 3 * tolerance);
            assertTrue(nearest.probability() > 0 && nearest.probability() <= 1);
        }
    }

    private static double distance(Found found, Ellipse2D disc) {
        return Math.hypot(found.center()[0] - disc.getCenterX(), found.center()[1] - disc.getCenterY());
    }

    @Test
    void cellsAreFoundWhereTheyAreForEveryTypeAndResolution() throws Exception {
        int[][] cases = {
            {1, DataBuffer.TYPE_BYTE, 10}, {1, DataBuffer.TYPE_USHORT, 20}, {3, DataBuffer.TYPE_BYTE, 25},
            {2, DataBuffer.TYPE_FLOAT, 10}
        };
        for (int[] one : cases) {
            small(one[0]);
            double downsample = one[2] / 10.0;
            // Discs of 16 pixels at the working resolution.
            int side = (int) (200 * downsample);
            DrawnSlide slide = new DrawnSlide(side, side, one[0], one[1])
                    .grid((int) (44 * downsample), (int) (16 * downsample));
            // Its cells are made of pixels, so that their places show whether those of the extension are right.
            Settings settings = settings(Algorithm.ELEPHANT).downsample(downsample).build();
            Watch watch = new Watch();
            List<Found> found =
                    new Work(settings, store, watch).trainAndPredict(List.of(slide.subject(6)), slide, List.of(), () -> {});
            assertFound(slide.discs(), found, 2 * downsample);
            assertEquals(80, watch.steps.size());
            Rectangle half = new Rectangle(0, 0, side / 2, side);
            List<Found> some = new Work(settings, store, new Watch()).predict(slide, List.of(half));
            assertEquals(slide.discs().stream().filter(disc -> half.contains(disc.getCenterX(), disc.getCenterY())).count(),
                    some.size());
        }
    }

    @Test
    void aLargeSlideIsReadAroundItsCellsAndSegmentedInTiles() throws Exception {
        small(1);
        DrawnSlide slide = new DrawnSlide(2000, 600, 1, DataBuffer.TYPE_BYTE).grid(44, 16);
        Settings settings = settings().build();
        Watch watch = new Watch();
        new Work(settings, store, watch).train(List.of(slide.subject(6)));
        assertTrue(slide.largest() < 2000 * 600 / 2, "the overview and the parts are small: " + slide.largest());
        List<Found> whole = new Work(settings().tileSize(2048).build(), store, watch).predict(slide, List.of());
        List<Found> tiled = new Work(settings().tileSize(320).overlap(64).build(), store, watch).predict(slide, List.of());
        assertFound(slide.discs(), whole, 6);
        assertEquals(whole.size(), tiled.size());
        for (Found one : whole) {
            // Sums of floats end differently in a tile of another size.
            assertTrue(tiled.stream().anyMatch(other -> one.shape().getBounds2D().equals(other.shape().getBounds2D())
                    && Math.abs(one.probability() - other.probability()) < 1e-4), Arrays.toString(one.center()));
        }
        List<Shape> areas = List.of(new Rectangle(30, 0, 900, 600), new Ellipse2D.Double(700, 40, 800, 500));
        List<Found> some = new Work(settings().tileSize(320).overlap(64).build(), store, watch).predict(slide, areas);
        List<Found> expected = whole.stream()
                .filter(one -> areas.stream().anyMatch(area -> area.contains(one.center()[0], one.center()[1]))).toList();
        assertEquals(expected.stream().map(one -> one.shape().getBounds2D()).collect(java.util.stream.Collectors.toSet()),
                some.stream().map(one -> one.shape().getBounds2D()).collect(java.util.stream.Collectors.toSet()));
        assertEquals(expected.size(), some.size());
    }

    @Test
    void partsThatAServerRoundsAreReadAtTheSizeThatWasAskedFor() throws Exception {
        Samples samples = new Samples(new float[] {1, 2, 3, 4, 5, 6}, 1, 3, 2);
        assertArrayEquals(new float[] {1, 2, 3, 4, 3, 4, 5, 6}, samples.resized(1, 4).values());
        assertArrayEquals(new float[] {3, 4, 3, 4}, samples.resized(2, 1).values());
        small(1);
        DrawnSlide slide = new DrawnSlide(1501, 701, 1, DataBuffer.TYPE_BYTE).grid(60, 22);
        Settings.Builder odd = settings().downsample(1.37);
        new Work(odd.build(), store, new Watch()).train(List.of(slide.subject(6)));
        List<Found> whole = new Work(odd.tileSize(2048).build(), store, new Watch()).predict(slide, List.of());
        List<Found> tiled = new Work(odd.tileSize(320).overlap(64).build(), store, new Watch()).predict(slide, List.of());
        assertFound(slide.discs(), whole, 8);
        assertFound(slide.discs(), tiled, 8);
    }

    @Test
    void aSegmentationByPartsIsStoppedAndToldAsAnyOther() throws Exception {
        small(1);
        DrawnSlide slide = new DrawnSlide(900, 900, 1, DataBuffer.TYPE_BYTE).grid(44, 16);
        Watch watch = new Watch();
        watch.stopAtTile = 1;
        Settings settings = settings().tileSize(320).overlap(64).build();
        assertThrows(Stopped.class, () -> new Work(settings, store, watch).predict(slide, List.of()));
        assertTrue(assertThrows(Failure.class, () -> new Work(settings, store, new Watch())
                .predict(slide, List.of(new Rectangle(2000, 0, 900, 900)))).getMessage().contains("outside the image"));
        Slide torn = new DrawnSlide(900, 900, 1, DataBuffer.TYPE_BYTE) {
            @Override
            public java.awt.image.BufferedImage read(double downsample, int x, int y, int w, int h) {
                return reads() == 0 ? super.read(downsample, x, y, w, h) : null;
            }
        };
        String said = assertThrows(Failure.class, () -> new Work(settings, store, new Watch()).predict(torn, List.of(
                new Rectangle(0, 0, 400, 400)))).getMessage();
        assertTrue(said.startsWith("the image 'drawn' has no pixels at"), said);
    }

    @Test
    void theAlgorithmIsChosenOnceAndThenThatOfTheModel() throws Exception {
        DrawnSlide slide = new DrawnSlide(160, 160, 1, DataBuffer.TYPE_BYTE).grid(44, 16);
        Settings.Builder settings = Settings.builder(null).steps(2).batchSize(1).patchSize(64).threads(2).model("best");
        Work work = new Work(settings.build(), store, new Watch());
        assertTrue(assertThrows(Failure.class, () -> work.predict(slide, List.of())).getMessage().contains("train it first"));
        assertFalse(work.reset());
        Watch watch = new Watch();
        new Work(settings.build(), store, watch).train(List.of(slide.subject(4)));
        List<Algorithm> made = Arrays.stream(Algorithm.values()).filter(one -> store.names(one).contains("best")).toList();
        assertEquals(1, made.size());
        assertTrue(watch.warnings.stream().anyMatch(text -> text.startsWith(made.get(0).id() + " fits the drawn cells best")),
                watch.warnings.toString());
        Watch again = new Watch();
        new Work(settings.build(), store, again).train(List.of(slide.subject(4)));
        assertTrue(again.warnings.stream().noneMatch(text -> text.contains("fits the drawn cells best")));
        new Work(settings.build(), store, new Watch()).predict(slide, List.of());
        assertTrue(new Work(settings.build(), store, new Watch()).reset());
        Settings remote = settings.serverUrl("http://localhost:9").build();
        assertThrows(Failure.class, () -> new Work(remote, store, new Watch()).train(List.of(slide.subject(4))));
    }

    @Test
    void aSmallImageTrainsAsInTheLibrary() throws Exception {
        DrawnSlide slide = new DrawnSlide(120, 100, 1, DataBuffer.TYPE_BYTE).grid(44, 16);
        for (Algorithm algorithm : Algorithm.values()) {
            Settings settings =
                    Settings.builder(algorithm).steps(2).batchSize(1).patchSize(32).seed(3).threads(1).model("x").build();
            new Work(settings, store, new Watch()).train(List.of(slide.subject(2)));
            List<Polygon> polygons = slide.drawings(2).stream()
                    .map(drawing -> Polygon.of(drawing.kind(), new java.awt.geom.Area(drawing.shape()))).toList();
            try (Dataset data = new Dataset().add(Image.of(slide.read(1, 0, 0, 120, 100)), Labels.of(polygons));
                    Model model = Model.create(algorithm, ModelOptions.builder().seed(3).build())) {
                model.train(data, TrainOptions.builder().steps(2).batchSize(1).patchSize(32).seed(3).threads(1).build());
                // The files differ in the sample type that they remember of the images, not in what was learned.
                Image image = Image.of(slide.read(1, 0, 0, 120, 100));
                try (Model trained = Model.load(store.file(algorithm, "x"));
                        Segmentation expected = model.predict(image); Segmentation found = trained.predict(image)) {
                    assertArrayEquals(expected.labels(), found.labels(), algorithm.id());
                    assertTrue(expected.objectCount() > 0, algorithm.id());
                }
            }
        }
        assertEquals(List.of("x"), store.names(Algorithm.ELEPHANT));
    }

    @Test
    void aStoppedTrainingLeavesAUsableModelThatGoesOn() throws Exception {
        DrawnSlide slide = new DrawnSlide(200, 200, 1, DataBuffer.TYPE_BYTE).grid(44, 16);
        small(1);
        Watch watch = new Watch();
        watch.stopAtStep = 5;
        AtomicInteger trained = new AtomicInteger();
        Stopped stopped = assertThrows(Stopped.class, () -> new Work(settings().build(), store, watch)
                .trainAndPredict(List.of(slide.subject(6)), slide, List.of(), trained::incrementAndGet));
        assertTrue(stopped.getMessage().contains("in 5 step(s)"), stopped.getMessage());
        assertEquals(0, trained.get());
        assertEquals(5, watch.steps.size());
        Watch early = new Watch();
        early.token().cancel();
        String nothing = assertThrows(Stopped.class, () -> new Work(settings().build(), store, early)
                .train(List.of(slide.subject(6)))).getMessage();
        assertTrue(nothing.contains("nothing was learned"), nothing);
        assertEquals(5, steps());
        new Work(settings().build(), store, new Watch()).predict(slide, List.of());
        new Work(settings().steps(3).build(), store, new Watch()).train(List.of(slide.subject(6)));
        assertEquals(8, steps());
        assertTrue(new Work(settings().build(), store, new Watch()).reset());
        assertFalse(new Work(settings().build(), store, new Watch()).reset());
        assertFalse(store.exists(Algorithm.STARDIST, "default"));
    }

    @Test
    void withoutStepsTheTimeDecides() throws Exception {
        DrawnSlide slide = new DrawnSlide(200, 200, 1, DataBuffer.TYPE_BYTE).grid(44, 16);
        small(1);
        Settings settings = Settings.builder(Algorithm.STARDIST).timeBudget(0.5).threads(1).build();
        Watch first = new Watch();
        new Work(settings, store, first).train(List.of(slide.subject(6)));
        long made = steps();
        // Without steps and time, the library makes 800.
        assertTrue(made > 0 && made < 800 && made == first.steps.size(), made + " steps");
        new Work(settings, store, new Watch()).train(List.of(slide.subject(6)));
        assertTrue(steps() > made, steps() + " steps after " + made);
    }

    private long steps() throws Exception {
        try (Model model = Model.load(store.file(Algorithm.STARDIST, "default"))) {
            return model.steps();
        }
    }

    @Test
    void aTrainingIsToldBeforeItsObjectsAreLookedFor() throws Exception {
        DrawnSlide slide = new DrawnSlide(200, 200, 1, DataBuffer.TYPE_BYTE).grid(44, 16);
        small(1);
        Watch watch = new Watch();
        Settings settings = settings().steps(2).build();
        List<Shape> outside = List.of(new Rectangle(300, 300, 9, 9));
        assertThrows(Failure.class, () -> new Work(settings, store, watch)
                .trainAndPredict(List.of(slide.subject(6)), slide, outside, () -> {}));
        assertEquals(0, watch.steps.size(), "regions are looked at first");
        String stopped = assertThrows(Stopped.class, () -> new Work(settings, store, watch)
                .trainAndPredict(List.of(slide.subject(6)), slide, List.of(), watch.token()::cancel)).getMessage();
        assertTrue(stopped.contains("is trained"), stopped);
        assertEquals(2, steps());
    }

    @Test
    void imagesWithoutContrastAreScaledByTheirExtremesOrRefused() throws Exception {
        DrawnSlide sparse = new DrawnSlide(100, 100, 1, DataBuffer.TYPE_BYTE) {
            @Override
            public BufferedImage read(double downsample, int x, int y, int w, int h) {
                BufferedImage picture = new BufferedImage(100, 100, BufferedImage.TYPE_BYTE_GRAY);
                picture.getRaster().setSample(40, 50, 0, 200);
                return picture;
            }
        };
        Intensities intensities = Intensities.measure(sparse, 1, new int[] {0}, 1, 99.8);
        assertArrayEquals(new float[] {0}, intensities.low());
        assertArrayEquals(new float[] {200}, intensities.high());
        DrawnSlide empty = new DrawnSlide(100, 100, 3, DataBuffer.TYPE_BYTE) {
            @Override
            public BufferedImage read(double downsample, int x, int y, int w, int h) {
                BufferedImage picture = new BufferedImage(100, 100, BufferedImage.TYPE_INT_RGB);
                for (int i = 0; i < 100; i++) {
                    picture.setRGB(i, i, 100 << 16);
                }
                return picture;
            }
        };
        Intensities color = Intensities.measure(empty, 1, new int[] {0, 1, 2}, 1, 99.8);
        assertArrayEquals(new float[] {100, 100, 100}, color.high(), "empty channels are scaled like the other one");
        String constant = assertThrows(
                Failure.class, () -> Intensities.measure(empty, 1, new int[] {1}, 1, 99.8)).getMessage();
        assertTrue(constant.contains("constant in channel 2"), constant);
    }

    @Test
    void severalImagesAreLearnedTogether() throws Exception {
        small(1);
        DrawnSlide one = new DrawnSlide(100, 100, 1, DataBuffer.TYPE_BYTE).grid(44, 16);
        DrawnSlide two = new DrawnSlide(90, 120, 1, DataBuffer.TYPE_BYTE).grid(44, 16);
        DrawnSlide empty = new DrawnSlide(90, 120, 1, DataBuffer.TYPE_BYTE);
        Watch watch = new Watch();
        Settings settings = settings().steps(1).build();
        new Work(settings, store, watch).train(List.of(one.subject(1), empty.subject(0), two.subject(2)));
        assertEquals(2, watch.messages.stream().filter(text -> text.startsWith("Reading")).count());
        DrawnSlide color = new DrawnSlide(100, 100, 3, DataBuffer.TYPE_BYTE).grid(44, 16);
        Failure failure = assertThrows(Failure.class,
                () -> new Work(settings, store, watch).train(List.of(one.subject(1), color.subject(1))));
        assertTrue(failure.getMessage().contains("3 channel") && failure.getMessage().contains("1"), failure.getMessage());
    }

    @Test
    void whatCannotWorkIsSaid() throws Exception {
        DrawnSlide slide = new DrawnSlide(100, 100, 1, DataBuffer.TYPE_BYTE).grid(44, 16);
        Settings settings = settings().steps(1).build();
        Work work = new Work(settings, store, new Watch());
        assertSaid(work, slide, List.of(), "class Foreground");
        assertSaid(work, slide, List.of(new Drawing(Polygon.Kind.BACKGROUND, Drawing.Form.AREA, new Rectangle(9, 9))),
                "Background alone");
        assertSaid(work, slide, List.of(new Drawing(Polygon.Kind.FOREGROUND, Drawing.Form.AREA, new Rectangle(200, 200, 9, 9))),
                "no Foreground annotation covers a pixel");
        Failure untrained = assertThrows(Failure.class, () -> work.predict(slide, List.of()));
        assertTrue(untrained.getMessage().contains("train it first"), untrained.getMessage());

        Path file = store.writable(Algorithm.STARDIST, "broken");
        Files.write(file, new byte[] {1, 2, 3});
        Work broken = new Work(settings().model("broken").build(), store, new Watch());
        Failure unreadable = assertThrows(Failure.class, () -> broken.predict(slide, List.of()));
        assertTrue(unreadable.getMessage().contains("broken.safetensors"), unreadable.getMessage());
        assertThrows(Failure.class, () -> broken.train(List.of(slide.subject(1))));
        assertArrayEquals(new byte[] {1, 2, 3}, Files.readAllBytes(file), "a failure changes no file");

        Work named = new Work(settings().model("../up").build(), store, new Watch());
        assertThrows(Failure.class, () -> named.train(List.of(slide.subject(1))));
        assertThrows(Failure.class, named::reset);
        try (Model other = Model.create(Algorithm.CELLPOSE)) {
            other.save(store.writable(Algorithm.STARDIST, "other"));
        }
        Work other = new Work(settings().model("other").build(), store, new Watch());
        Failure kind = assertThrows(Failure.class, () -> other.predict(slide, List.of()));
        assertTrue(kind.getMessage().contains("cellpose"), kind.getMessage());
        small(3);
        Failure channels = assertThrows(Failure.class, () -> work.predict(slide, List.of()));
        assertTrue(channels.getMessage().contains("the model takes 3"), channels.getMessage());
    }

    private static void assertSaid(Work work, DrawnSlide slide, List<Drawing> drawings, String expected) {
        Subject subject = new Subject() {
            @Override
            public String name() {
                return "given";
            }

            @Override
            public List<Drawing> drawings() {
                return drawings;
            }

            @Override
            public Slide open() {
                return slide;
            }
        };
        Failure failure = assertThrows(Failure.class, () -> work.train(List.of(subject)));
        assertTrue(failure.getMessage().contains(expected), failure.getMessage());
    }
}
