package io.github.cellsparse.qupath;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.cellsparse.Algorithm;
import io.github.cellsparse.Model;
import io.github.cellsparse.ModelOptions;
import io.github.cellsparse.qupath.work.DrawnSlide;
import io.github.cellsparse.qupath.work.Failure;
import io.github.cellsparse.qupath.work.Watch;
import java.awt.Rectangle;
import java.awt.Shape;
import java.awt.geom.Area;
import java.awt.geom.Ellipse2D;
import java.awt.geom.Path2D;
import java.awt.geom.Rectangle2D;
import java.awt.image.DataBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.ServiceLoader;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import qupath.lib.gui.extensions.QuPathExtension;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;

/** Annotations in, detections out, with stand-ins for QuPath. */
class CellsparseRunTest {
    @TempDir
    Path folder;

    private Path models;
    private Fakes.Data image;
    private Fakes.Images project;

    @BeforeEach
    void draw() throws Exception {
        image = new Fakes.Data(slide()).annotate(6);
        project = new Fakes.Images(folder, new ArrayList<>(List.of(image)));
        models = folder.resolve("models/cellsparse/stardist");
        Path elsewhere = Files.createDirectories(folder.resolve("elsewhere/stardist"));
        Files.createDirectories(models);
        try (Model model = Model.create(Algorithm.STARDIST, ModelOptions.builder().set("n_rays", 16)
                .set("n_filter_base", 8).set("n_depth", 2).set("net_conv_after_unet", 16).build())) {
            model.save(models.resolve("default.safetensors"));
            model.save(elsewhere.resolve("it's.safetensors"));
        }
    }

    private static DrawnSlide slide() {
        return new DrawnSlide(200, 200, 1, DataBuffer.TYPE_BYTE).grid(44, 16);
    }

    private static CellsparseRun.Builder run() {
        return CellsparseRun.builder("stardist").steps(80).batchSize(2).patchSize(64).learningRate(0.005).threads(1);
    }

    private int train(CellsparseRun run, Watch watch) throws Failure {
        return run.train(image, project, watch, Receiver.of(image));
    }

    private List<PathObject> results() {
        return image.objects.all.stream().filter(one -> one.getPathClass() == PathClass.fromString("Cellsparse")).toList();
    }

    @Test
    void annotationsBecomeDetectionsAndOnlyOursAreReplaced() throws Exception {
        PathObject unclassified = Fakes.annotation(new Rectangle(3, 3, 5, 5), null);
        PathObject lookalike = Fakes.annotation(new Rectangle(9, 9, 5, 5), "Cellsparse");
        PathObject tumor = Fakes.annotation(new Rectangle(1, 1, 50, 50), "Tumor");
        image.objects.all.addAll(List.of(unclassified, lookalike, tumor));
        int before = image.objects.all.size();
        int count = train(run().build(), new Watch());
        assertEquals(slide().discs().size(), count);
        assertEquals(before + count, image.objects.all.size());
        for (PathObject result : image.objects.getDetectionObjects()) {
            Rectangle2D box = result.getROI().getShape().getBounds2D();
            assertTrue(slide().discs().stream().anyMatch(disc -> Math.hypot(
                    disc.getCenterX() - box.getCenterX(), disc.getCenterY() - box.getCenterY()) < 3), box.toString());
            double probability = result.getMeasurementList().get("Cellsparse probability");
            assertTrue(probability > 0 && probability <= 1);
        }
        // Again, as annotations: the detections go; a result with a class of the user's stays.
        count = run().detections(false).build().predict(image, project, new Watch(), Receiver.of(image));
        assertEquals(0, image.objects.getDetectionObjects().size());
        assertEquals(before + count, image.objects.all.size());
        PathObject kept = results().stream().filter(one -> one != lookalike).findFirst().get();
        assertTrue(kept.isLocked() && kept.isAnnotation());
        run().within(0, 0, 100, 200).build().predict(image, project, new Watch(), Receiver.of(image));
        assertTrue(image.objects.getDetectionObjects().size() > 0);
        assertTrue(results().stream().anyMatch(PathObject::isAnnotation), "results outside the region stay");
        for (PathObject drawn : List.of(unclassified, lookalike, tumor)) {
            assertTrue(image.objects.all.contains(drawn));
        }
    }

    /** As QuPath names what it imports from a RoiSet.zip. */
    @Test
    void namesOfDrawnObjectsAreKeptAndResultsHaveNone() throws Exception {
        List<PathObject> drawn = List.copyOf(image.objects.all);
        for (int i = 0; i < drawn.size(); i++) {
            drawn.get(i).setName("%04d-0012-%04d".formatted(i, 2 * i));
        }
        assertTrue(train(run().build(), new Watch()) > 0);
        run().detections(false).build().predict(image, project, new Watch(), Receiver.of(image));
        for (int i = 0; i < drawn.size(); i++) {
            assertTrue(image.objects.all.contains(drawn.get(i)));
            assertEquals("%04d-0012-%04d".formatted(i, 2 * i), drawn.get(i).getName());
        }
        // QuPath shows the class where there is no name, the same one whenever and in whatever order objects are found.
        assertFalse(results().isEmpty());
        assertTrue(results().stream().allMatch(result -> result.getName() == null));
    }

    @Test
    void onlyTheExactClassesOfThePlaneCount() {
        image.objects.all.clear();
        image.objects.all.addAll(List.of(
                Fakes.annotation(new Rectangle(1, 1, 5, 5), "Foreground: x"),
                Fakes.annotation(new Rectangle(1, 1, 5, 5), "foreground"),
                Fakes.annotation(new Fakes.Region(new Rectangle(1, 1, 5, 5), false, 2), "Foreground"),
                Fakes.annotation(new Rectangle(1, 1, 5, 5), null)));
        assertThrows(Failure.class, () -> train(run().build(), new Watch()));
        assertEquals(0, QuPathObjects.drawings(image.objects, 0, 0).size());
        assertEquals(1, QuPathObjects.drawings(image.objects, 2, 0).size());
    }

    @Test
    void selectedRegionsAreNeitherLabelsNorResults() throws Exception {
        PathObject region = Fakes.annotation(new Ellipse2D.Double(0, 0, 100, 100), null);
        image.objects.all.add(region);
        image.objects.selected.addAll(image.objects.all);
        assertEquals(List.of(region.getROI().getShape()), QuPathObjects.selectedRegions(image.objects, 0, 0));
        train(run().withinSelected().build(), new Watch());
        for (PathObject result : results()) {
            Rectangle2D box = result.getROI().getShape().getBounds2D();
            assertTrue(region.getROI().getShape().contains(box.getCenterX(), box.getCenterY()));
        }
        String script = image.history.get(0).getScript();
        String rings = script.substring(script.indexOf(".withinPolygon('") + 16, script.indexOf("')\n    .build"));
        assertFalse(script.contains("withinSelected"), script);
        assertEquals(script, run().withinPolygon(rings).build() + "\n    .train(getCurrentImageData())");
        int found = results().size();
        assertEquals(found, run().withinPolygon(rings).build().predict(image, project, new Watch(), Receiver.of(image)));
        assertTrue(run().withinSelected().build().toString().contains(".withinSelected()"));
        image.objects.selected.clear();
        assertThrows(Failure.class, () -> train(run().withinSelected().build(), new Watch()));
    }

    @Test
    void regionsAreWrittenAndReadAlike() {
        Area ring = new Area(new Rectangle(0, 0, 100, 50));
        ring.subtract(new Area(new Rectangle(10, 10, 20, 20)));
        Area read = new Area(Regions.read(Regions.write(ring)));
        assertTrue(read.equals(ring), Regions.write(ring));
        assertEquals(0, Regions.read("0,0 9.5,0 9.5,8; 1,1 2,1 2,2").getBounds2D().getX());
        assertTrue(Regions.isRectangle(new Rectangle(3, 3, 5, 5)));
        assertFalse(Regions.isRectangle(ring));
        for (String text : List.of("", "0,0 1,1", "0,0 1,1 2", "0,0 1,1 2,x", "0,0 1,1 2,2,2", "0,0 1,1 2,NaN", "0,0 1,0 1,1;")) {
            assertThrows(IllegalArgumentException.class, () -> run().withinPolygon(text), text);
        }
    }

    @Test
    void regionsThatAreTooLongForAScriptAreAskedFor() throws Exception {
        Path2D saw = new Path2D.Double();
        saw.moveTo(0, 100);
        for (int i = 0; i < 9000; i++) {
            saw.lineTo(i / 90.0, i % 2 * 50);
        }
        saw.lineTo(100, 100);
        saw.closePath();
        List<Shape> regions = List.of(saw, new Rectangle(1, 2, 3, 4), new Ellipse2D.Double(0, 0, 9, 9));
        String script = run().withinShapes(regions).build().toString();
        assertTrue(script.contains(".withinSelected()") && script.contains(".within(1.0, 2.0, 3.0, 4.0)")
                && script.contains(".withinPolygon('"), script);
        assertTrue(script.length() < 10_000);
    }

    @Test
    void anImageOfTheProjectThatCannotBeOpenedIsNamed() throws Exception {
        Fakes.Data other = new Fakes.Data(slide()).annotate(3);
        other.unreadable = new IllegalStateException("gone");
        project.data().add(other);
        String message = assertThrows(
                Failure.class, () -> train(run().steps(1).allImages(true).segment(false).build(), new Watch())).getMessage();
        assertTrue(message.contains("image 1") && message.contains("gone"), message);
    }

    @Test
    void aModelThatIsTrainedIsNotedWhateverFollows() throws Exception {
        Watch watch = new Watch();
        watch.stopAtStep = 2;
        assertThrows(Failure.class, () -> train(run().steps(2).build(), watch));
        assertEquals(1, image.history.size());
        assertTrue(image.history.get(0).getScript().contains(".steps(2)"));
    }

    @Test
    void theHistoryRepeatsTheRun() throws Exception {
        run().steps(1).model("it's").modelFolder(folder.resolve("elsewhere").toString()).detections(false)
                .within(10, 20, 50, 60).build().train(image, null, new Watch(), Receiver.of(image));
        assertEquals("Cellsparse stardist training", image.history.get(0).getName());
        assertEquals("io.github.cellsparse.qupath.CellsparseRun.builder('stardist')\n    .steps(1)\n    .batchSize(2)\n"
                + "    .patchSize(64)\n    .learningRate(0.005)\n    .threads(1)\n    .model('it\\'s')\n    .modelFolder('"
                + folder.resolve("elsewhere") + "')\n    .detections(false)\n    .within(10.0, 20.0, 50.0, 60.0)\n"
                + "    .build()\n    .train(getCurrentImageData())", image.history.get(0).getScript());
        try (Model model = Model.load(folder.resolve("elsewhere/stardist/it's.safetensors"))) {
            assertEquals(1, model.steps());
        }
        run().build().predict(image, project, new Watch(), Receiver.of(image));
        assertEquals("Cellsparse stardist inference", image.history.get(1).getName());
        assertTrue(image.history.get(1).getScript().endsWith(".build()\n    .predict(getCurrentImageData())"));
    }

    @Test
    void otherImagesOfTheProjectAreLearnedToo() throws Exception {
        Fakes.Data other = new Fakes.Data(slide()).annotate(3);
        project.data().add(other);
        Watch watch = new Watch();
        train(run().steps(1).allImages(true).segment(false).build(), watch);
        assertTrue(watch.messages.contains("Reading image 1"), watch.messages.toString());
        assertTrue(other.closed);
        assertFalse(image.closed, "the open image stays open");
        assertEquals(0, results().size());
        assertTrue(run().build().reset(project, new Watch()));
        assertFalse(Files.exists(models.resolve("default.safetensors")));
    }

    @Test
    void aTrainingThatIsStoppedKeepsModelAndObjects() throws Exception {
        Watch watch = new Watch();
        watch.stopAtStep = 3;
        int before = image.objects.all.size();
        assertThrows(Failure.class, () -> train(run().build(), watch));
        assertEquals(before, image.objects.all.size());
        try (Model model = Model.load(models.resolve("default.safetensors"))) {
            assertEquals(3, model.steps());
        }
    }

    @Test
    void preferencesAndServiceFit() throws Exception {
        Preferences preferences = Preferences.of(Algorithm.CELLPOSE);
        assertSame(preferences, Preferences.of(Algorithm.CELLPOSE));
        assertEquals("cellsparse.cellpose.steps", preferences.steps.getName());
        preferences.channels.set("1, 3");
        preferences.pixelSize.set(0.25);
        String script = script(preferences.builder(Algorithm.CELLPOSE));
        assertTrue(script.contains(".channels(1, 3)") && script.contains(".pixelSize(0.25)"), script);
        assertFalse(script.contains("steps"), "what has its default is left out");
        assertThrows(Failure.class, () -> Preferences.channels("1, x"));
        QuPathExtension extension = ServiceLoader.load(QuPathExtension.class).findFirst().get();
        assertEquals(CellsparseExtension.class, extension.getClass());
        assertNotNull(extension.getDescription());
        assertEquals(0.01, run().pixelSize(1).build().megapixels(image));
    }

    private String script(CellsparseRun.Builder builder) throws Failure {
        CellsparseRun run = builder.modelFolder(folder.toString()).build();
        Failure failure = assertThrows(Failure.class,
                () -> run.predict(image, project, new Watch(), Receiver.of(image)));
        assertTrue(failure.getMessage().contains("train it first"), failure.getMessage());
        return run.toString();
    }

    @Test
    void whatToDrawIsToldUntilACellIsDrawn() throws Exception {
        Fakes.Data image = new Fakes.Data(new DrawnSlide(120, 120, 1, DataBuffer.TYPE_BYTE).grid(44, 16));
        assertTrue(FirstSteps.missing(image.getHierarchy()));
        image.annotate(1);
        assertFalse(FirstSteps.missing(image.getHierarchy()));
        PathClass foreground = PathClass.fromString("Foreground");
        PathClass background = PathClass.fromString("Background");
        assertEquals(List.of(foreground, background), FirstSteps.absent(List.of(PathClass.fromString("Tumor"))));
        assertEquals(List.of(background), FirstSteps.absent(List.of(foreground)));
        assertTrue(FirstSteps.TEXT.contains("Foreground") && FirstSteps.TEXT.contains("Background"));
    }
}
