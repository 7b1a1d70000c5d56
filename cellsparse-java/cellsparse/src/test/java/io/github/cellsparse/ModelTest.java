package io.github.cellsparse;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a program does with a model, and what it can do wrong. */
class ModelTest {
    @Test
    void aModelTrainsPredictsSavesAndLoads(@TempDir Path folder) {
        try (Model model = Model.create(Algorithm.STARDIST, Fields.TINY);
                Dataset data = Fields.dataset()) {
            List<TrainingProgress> events = new ArrayList<>();
            Thread caller = Thread.currentThread();
            TrainingSummary summary = model.train(data, Fields.SHORT, event -> {
                assertSame(caller, Thread.currentThread());
                return events.add(event);
            });
            assertEquals(2, summary.steps());
            assertEquals(TrainingSummary.StopReason.FINISHED, summary.stopped());
            assertEquals("cpu", summary.device());
            assertEquals(List.of(1L, 2L), events.stream().map(TrainingProgress::step).toList());
            assertEquals(2, events.get(0).totalSteps());
            assertTrue(Double.isFinite(events.get(1).loss()) && !events.get(1).losses().isEmpty());
            assertTrue(events.get(0).validationLoss().isEmpty());
            assertEquals(2, model.steps());
            assertEquals(2, ((List<?>) model.history().get("loss")).size());

            Path file = folder.resolve("ä model.safetensors");
            model.save(file);
            PredictOptions options = PredictOptions.builder().probThresh(0.01).build();
            try (Model loaded = Model.load(file);
                    Segmentation first = model.predict(Fields.image(), options);
                    Segmentation second = loaded.predict(Fields.image(), options)) {
                assertEquals(Algorithm.STARDIST, loaded.algorithm());
                assertEquals(1, loaded.channels());
                assertArrayEquals(first.labels(), second.labels());
                assertEquals(Fields.SIDE, first.height());
                assertTrue(first.objectCount() > 0);
                for (SegmentedObject object : first.objects()) {
                    assertTrue(object.id() > 0 && object.probability() > 0 && object.objectClass().isEmpty());
                    assertEquals(16, object.polygon().length);
                }
                assertEquals(first.objectCount(), first.outlines(OutlineOptions.exact()).size());
                assertTrue(first.toGeoJson(OutlineOptions.exact()).contains("\"probability\""));
            }
            model.reset(4);
            assertEquals(0, model.steps());
        }
    }

    @Test
    void notesPixelSizesAndTheChoiceOfAnAlgorithmAreTold() {
        try (Model model = Model.create(Algorithm.STARDIST, Fields.TINY);
                Dataset data = Fields.dataset()) {
            assertThrows(IllegalArgumentException.class, () -> data.setPixelSize(1, 0.5, 0.5));
            assertThrows(IllegalArgumentException.class, () -> data.setPixelSize(0, 0.5, -1));
            data.setPixelSize(0, 0.5, 0.5);
            assertTrue(model.lastTraining().isEmpty());
            TrainingSummary summary = model.train(data, Fields.SHORT);
            assertEquals(summary.notes(), model.lastTraining().orElseThrow().get("notes"));
            assertEquals("random", summary.begun());
            assertTrue(List.of("trained", "start").contains(summary.kept()));
            assertTrue(summary.notes().stream().anyMatch(note -> note.contains("random weights")), summary.toString());
            assertEquals(List.of(0.5, 0.5), model.info().get("pixel_size"));
            PredictOptions coarse = PredictOptions.builder().pixelSize(1.0).probThresh(0.01).build();
            PredictOptions asItIs = PredictOptions.builder().pixelSize(1.0).rescale(false).probThresh(0.01).build();
            try (Segmentation scaled = model.predict(Fields.image(), coarse);
                    Segmentation plain = model.predict(Fields.image(), asItIs)) {
                assertTrue(scaled.notes().get(0).contains("seen at 2 times its size"), scaled.notes().toString());
                assertTrue(plain.notes().stream().noneMatch(note -> note.contains("micrometres")));
            }
            try (Segmentation none = model.predict(Image.of(new byte[32 * 32], 32, 32, 1))) {
                assertTrue(none.notes().get(0).startsWith("nothing found"), none.notes().toString());
            }
            TrainOptions brief = TrainOptions.builder().timeBudget(Duration.ofMillis(50)).device("cpu").build();
            AlgorithmChoice choice = data.chooseAlgorithm(brief);
            assertEquals(3, choice.scores().size());
            assertEquals(choice.algorithm(), choice.scores().keySet().iterator().next());
            assertTrue(choice.reason().contains(choice.algorithm().id()));
            CancelToken token = new CancelToken();
            token.cancel();
            TrainOptions cancelled = TrainOptions.builder().cancel(token).device("cpu").build();
            assertThrows(CellsparseException.Cancelled.class, () -> data.chooseAlgorithm(cancelled));
        }
    }

    @Test
    void settingsOfAConversionCount(@TempDir Path folder) throws Exception {
        try (Model model = Model.create(Algorithm.STARDIST, Fields.TINY)) {
            Path source = folder.resolve("a.safetensors");
            model.save(source);
            Path target = folder.resolve("a.onnx");
            assertEquals(List.of(), Model.convert(source, target));
            long plain = Files.size(target);
            Path config = Files.writeString(folder.resolve("ä.json"), "{\"onnx\": {\"normalization\": \"inside\"}}");
            assertTrue(Model.convert(source, target, config).get(0).contains("whole images"));
            assertTrue(Files.size(target) > plain);
            Files.writeString(config, "{\"onnx\": {\"normalization\": \"within\"}}");
            CellsparseException wrong = assertThrows(CellsparseException.File.class,
                    () -> Model.convert(source, target, config));
            assertTrue(wrong.getMessage().contains("inside"), wrong.getMessage());
            assertThrows(NullPointerException.class, () -> Model.convert(source, target, null));
        }
    }

    @Test
    void closedObjectsSaySo() {
        Model model = Fields.trained();
        Segmentation found = model.predict(Fields.image());
        Dataset data = Fields.dataset();
        model.close();
        model.close();
        found.close();
        data.close();
        assertTrue(model.isClosed());
        assertThrows(IllegalStateException.class, model::info);
        assertThrows(IllegalStateException.class, () -> model.predict(Fields.image()));
        assertThrows(IllegalStateException.class, () -> model.save(Path.of("x")));
        assertThrows(IllegalStateException.class, () -> model.reset(1));
        assertThrows(IllegalStateException.class, found::labels);
        assertThrows(IllegalStateException.class, () -> found.outlines(OutlineOptions.exact()));
        assertThrows(IllegalStateException.class, data::size);
        assertThrows(IllegalStateException.class, () -> data.add(Fields.image(), Fields.labels()));
        try (Model other = Model.create(Algorithm.STARDIST, Fields.TINY)) {
            assertThrows(IllegalStateException.class, () -> other.train(data, Fields.SHORT));
        }
    }

    @Test
    void everyKindOfFailureHasItsException(@TempDir Path folder) throws Exception {
        try (Model model = Model.create(Algorithm.STARDIST, Fields.TINY);
                Dataset data = Fields.dataset();
                Dataset empty = new Dataset()) {
            assertThrows(CellsparseException.Image.class, () -> model.train(empty, Fields.SHORT));
            Image twoChannels = Image.of(new byte[Fields.SIDE * Fields.SIDE * 2], Fields.SIDE, Fields.SIDE, 2);
            assertThrows(CellsparseException.Image.class, () -> model.predict(twoChannels));
            Labels small = Labels.of(new int[] {1, 0}, 1, 2);
            assertThrows(CellsparseException.Labels.class, () -> data.add(Fields.image(), small));
            assertThrows(CellsparseException.Config.class,
                    () -> model.train(data, TrainOptions.builder().steps(0).build()));
            assertThrows(CellsparseException.Config.class,
                    () -> model.train(data, TrainOptions.builder().learningRate(Double.NaN).build()));
            CellsparseException unknown = assertThrows(CellsparseException.Config.class,
                    () -> Model.create(Algorithm.CELLPOSE, ModelOptions.builder().set("n_rays", 3).build()));
            assertTrue(unknown.getMessage().contains("n_rays"), unknown.getMessage());
            assertThrows(CellsparseException.NotFound.class, () -> Model.load(folder.resolve("none")));
            Path damaged = Files.writeString(folder.resolve("damaged"), "no model");
            assertThrows(CellsparseException.File.class, () -> Model.load(damaged));
            assertThrows(CellsparseException.Device.class,
                    () -> model.predict(Fields.image(), PredictOptions.builder().device("cuda:77").build()));
            assertThrows(CellsparseException.Diverged.class, () -> model.train(
                    data, Fields.shortTraining().steps(20).learningRate(9e3).build()));
            assertEquals(0, model.steps(), "after a failure the model is as it was");
            assertThrows(IllegalArgumentException.class, () -> model.reset(-1));
            assertThrows(NullPointerException.class, () -> model.predict(null));
            assertThrows(NullPointerException.class, () -> model.train(null, Fields.SHORT));
            assertThrows(NullPointerException.class, () -> Model.load(null));
        }
    }

    @Test
    void aListenerCanStopAndMayThrow() {
        try (Model model = Model.create(Algorithm.STARDIST, Fields.TINY);
                Dataset data = Fields.dataset()) {
            TrainingSummary summary = model.train(data, Fields.SHORT, event -> false);
            assertEquals(1, summary.steps());
            assertEquals(TrainingSummary.StopReason.CANCELLED, summary.stopped());
            IllegalStateException own = new IllegalStateException("my own");
            assertSame(own, assertThrows(IllegalStateException.class, () -> model.train(data, Fields.SHORT, event -> {
                throw own;
            })));
            assertThrows(StackOverflowError.class, () -> model.train(data, Fields.SHORT, event -> overflow(1) > 0));
            assertThrows(CellsparseException.Busy.class, () -> model.train(data, Fields.SHORT, event -> model.info() != null));
            model.train(data, Fields.SHORT, event -> model.algorithm() == Algorithm.STARDIST && model.channels() > 9);
            assertTrue(model.steps() > 0, "the model is usable after all that");
        }
    }

    private static int overflow(int depth) {
        return overflow(depth + 1) + 1;
    }

    @Test
    void tokensStopTrainingAndPrediction() throws Exception {
        try (Model model = Model.create(Algorithm.STARDIST, Fields.TINY);
                Dataset data = Fields.dataset()) {
            CancelToken token = new CancelToken();
            TrainOptions options = Fields.shortTraining().steps(100_000).cancel(token).build();
            Thread stopper = new Thread(() -> {
                try {
                    Thread.sleep(200);
                } catch (InterruptedException error) {
                    Thread.currentThread().interrupt();
                }
                token.cancel();
            });
            stopper.start();
            TrainingSummary summary = model.train(data, options);
            stopper.join();
            assertEquals(TrainingSummary.StopReason.CANCELLED, summary.stopped());
            assertTrue(summary.steps() >= 1 && summary.steps() < 100_000);
            assertThrows(CellsparseException.Cancelled.class,
                    () -> model.predict(Fields.image(), PredictOptions.builder().cancel(token).build()));
        }
    }

    @Test
    void panicsBecomeExceptions() {
        assertTrue(Cellsparse.isAvailable());
        RuntimeException panic = assertThrows(RuntimeException.class, Native::testPanic);
        assertTrue(panic.getMessage().contains("on purpose"), panic.getMessage());
    }

    @Test
    void theLibraryTellsAboutItself() {
        assertFalse(Cellsparse.version().isEmpty());
        assertTrue(Cellsparse.devices().contains("cpu"));
    }

    @Test
    void jsonSurvivesTheWayThereAndBack() {
        Map<String, Object> object = Json.parseObject(
                " { \"a\" : [1, -2.5e3, true, null, \"q\\\"\\u00e4\\n\"], \"b\": {}, \"c\": [] } ");
        assertEquals("{\"a\":[1.0,-2500.0,true,null,\"q\\\"ä\\u000a\"],\"b\":{},\"c\":[]}", Json.write(object));
        for (String broken : new String[] {"{", "[1,]", "{\"a\"}", "[\"\\x\"]", "[] 1", "[\"a]"}) {
            assertThrows(CellsparseException.Internal.class, () -> Json.parseArray(broken), broken);
        }
    }
}
