package io.github.cellsparse.qupath.work;

import io.github.cellsparse.Algorithm;
import io.github.cellsparse.AlgorithmChoice;
import io.github.cellsparse.CellsparseException;
import io.github.cellsparse.Dataset;
import io.github.cellsparse.Model;
import io.github.cellsparse.ModelOptions;
import io.github.cellsparse.Outline;
import io.github.cellsparse.OutlineOptions;
import io.github.cellsparse.PredictOptions;
import io.github.cellsparse.SegmentedObject;
import io.github.cellsparse.Segmentation;
import io.github.cellsparse.TrainOptions;
import io.github.cellsparse.TrainingSummary;
import java.awt.Rectangle;
import java.awt.Shape;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** Training and segmenting in this process. */
final class LocalWork {
    /** Samples of all parts together, at most: a gibibyte as floats. */
    private static final long MOST_SAMPLES = 1L << 28;

    private final Settings settings;
    private final ModelStore store;
    private final Monitor monitor;

    LocalWork(Settings settings, ModelStore store, Monitor monitor) {
        this.settings = settings;
        this.store = store;
        this.monitor = monitor;
    }

    /** The algorithm that finds drawn cells best that it was not shown. */
    AlgorithmChoice choose(List<Subject> subjects) throws IOException, Failure {
        try (Dataset data = new Dataset()) {
            collect(subjects, data).close();
            monitor.check();
            monitor.message("Trying every algorithm on the drawn cells");
            return data.chooseAlgorithm(trainOptions(false));
        }
    }

    /** Trains the model of the settings, a new one if there is none of that name, and saves it. */
    TrainingSummary train(List<Subject> subjects) throws IOException, Failure {
        Path file = store.writable(settings.algorithm, settings.model);
        try (Dataset data = new Dataset(); Model model = collect(subjects, data)) {
            data.advice().forEach(monitor::warn);
            monitor.check();
            monitor.message("Training '" + settings.model + "'");
            TrainingSummary summary = train(model, data);
            summary.notes().forEach(monitor::warn);
            if (summary.steps() > 0) {
                model.save(file);
            }
            return summary;
        }
    }

    /** Reads what is drawn into the data set and opens the model that fits it. */
    private Model collect(List<Subject> subjects, Dataset data) throws IOException, Failure {
        Model model = null;
        int channels = 0;
        long samples = 0;
        try {
            for (Subject subject : subjects) {
                monitor.check();
                monitor.message("Reading " + subject.name());
                try (Slide slide = subject.open()) {
                    int[] chosen = settings.channels(slide);
                    if (model == null) {
                        channels = chosen.length;
                        model = openOrCreate(slide.isRgb() && settings.algorithm != Algorithm.STARDIST ? 1 : channels);
                    }
                    Work.checkChannels(slide, chosen.length, channels);
                    samples = add(slide, subject.drawings(), chosen, model, data, samples);
                }
            }
            if (data.size() == 0) {
                throw new Failure("no Foreground annotation covers a pixel at this resolution; choose a finer one");
            }
            return model;
        } catch (IOException | Failure | RuntimeException error) {
            if (model != null) {
                model.close();
            }
            throw error;
        }
    }

    private long add(Slide slide, List<Drawing> drawings, int[] channels, Model model, Dataset data, long before)
            throws IOException, Failure {
        double downsample = settings.downsample(slide);
        Crops crops = Crops.plan(slide.width(), slide.height(), drawings, downsample, settings.serverPatchSize());
        if (crops.unused() > 0) {
            boolean one = crops.unused() == 1;
            monitor.warn(crops.unused() + " Background annotation" + (one ? "" : "s") + " of '" + slide.name() + "' "
                    + (one ? "lies far from all cells and is" : "lie far from all cells and are")
                    + " not used; draw background near the cells");
        }
        Intensities intensities = intensities(slide, downsample, channels, model);
        long samples = before;
        for (Rectangle area : crops.parts()) {
            monitor.check();
            samples += (long) (area.width / downsample * (area.height / downsample) * channels.length);
            if (samples > MOST_SAMPLES) {
                throw new Failure("the surroundings of the annotations have more than " + MOST_SAMPLES / 1_000_000
                        + " million samples at this resolution; choose a coarser resolution, fewer channels, or annotate fewer"
                        + " places");
            }
            Part part = Part.read(slide, area, downsample);
            LabelMap labels = LabelMap.draw(drawings, part);
            if (labels.objects() > 0) {
                data.add(intensities.apply(Samples.of(part.picture(), channels)).image(), labels.labels());
                double size = settings.workingPixelSize(slide);
                if (size > 0) {
                    data.setPixelSize(data.size() - 1, size, size);
                }
            }
        }
        return samples;
    }

    private TrainingSummary train(Model model, Dataset data) {
        boolean resume = Boolean.TRUE.equals(model.info().get("resumable"));
        try {
            return model.train(data, trainOptions(resume), this::onStep);
        } catch (CellsparseException.Config error) {
            if (!resume) {
                throw error;
            }
            // The optimiser of another preset cannot go on with this one; the weights can.
            return model.train(data, trainOptions(false), this::onStep);
        }
    }

    private boolean onStep(io.github.cellsparse.TrainingProgress progress) {
        monitor.step(progress);
        return !monitor.token().isCancelled();
    }

    private TrainOptions trainOptions(boolean resume) {
        TrainOptions.Builder options = TrainOptions.builder()
                .seed(settings.seed)
                .resume(resume)
                .normalized(true)
                .cancel(monitor.token());
        if (settings.steps > 0) {
            options.steps(settings.steps);
        } else {
            options.timeBudget(Duration.ofMillis(Math.round(1000 * settings.timeBudget)));
        }
        if (settings.batchSize > 0) {
            options.batchSize(settings.batchSize);
        }
        if (settings.patchSize > 0) {
            options.patchSize(settings.patchSize);
        }
        if (settings.learningRate > 0) {
            options.learningRate(settings.learningRate);
        }
        if (settings.threads > 0) {
            options.threads(settings.threads);
        }
        return options.build();
    }

    /**
     * The objects of some areas of a slide, or of all of it, at full resolution. What fits into one tile is segmented by itself;
     * the rest is read part by part, with the result of the whole slide.
     */
    List<Found> segment(Slide slide, List<Shape> areas) throws IOException, Failure {
        Inference.check(slide, areas);
        if (Inference.isOneTileEach(slide, areas, settings)) {
            try (Segmenter segmenter = segmenter(slide)) {
                return Inference.run(slide, areas, settings, segmenter, monitor);
            }
        }
        try (Model model = stored()) {
            int[] channels = settings.channels(slide);
            double downsample = settings.downsample(slide);
            SlideSource source = new SlideSource(slide, downsample, channels, intensities(slide, downsample, channels, model));
            return new LargeInference(model, source, settings, monitor)
                    .run(slide, areas, predictOptions(settings.workingPixelSize(slide)));
        }
    }

    /** The model of the settings, which must have been trained. */
    private Model stored() throws Failure {
        if (!store.exists(settings.algorithm, settings.model)) {
            List<String> names = store.names(settings.algorithm);
            throw new Failure("there is no model '" + settings.model + "' of " + settings.algorithm.id() + " yet; train it first"
                    + (names.isEmpty() ? "" : ", or choose one of " + String.join(", ", names)));
        }
        return load();
    }

    /** What finds the objects of parts of a slide with the model of the settings. */
    private Segmenter segmenter(Slide slide) throws IOException, Failure {
        Model model = stored();
        try {
            int[] channels = settings.channels(slide);
            Intensities intensities = intensities(slide, settings.downsample(slide), channels, model);
            return new LocalSegmenter(model, channels, intensities, predictOptions(settings.workingPixelSize(slide)));
        } catch (IOException | Failure | RuntimeException error) {
            model.close();
            throw error;
        }
    }

    private PredictOptions predictOptions(double pixelSize) {
        PredictOptions.Builder options = PredictOptions.builder()
                .minArea(settings.minArea)
                .normalized(true)
                .cancel(monitor.token());
        if (pixelSize > 0) {
            options.pixelSize(pixelSize);
        }
        if (settings.probability > 0 && settings.algorithm != Algorithm.CELLPOSE) {
            options.probThresh(settings.probability);
        }
        if (settings.diameter > 0 && settings.algorithm == Algorithm.CELLPOSE) {
            options.diameter(settings.diameter);
        }
        if (settings.threads > 0) {
            options.threads(settings.threads);
        }
        return options.build();
    }

    private Model openOrCreate(int channels) throws Failure {
        if (store.exists(settings.algorithm, settings.model)) {
            return load();
        }
        return Model.create(
                settings.algorithm, ModelOptions.builder().seed(settings.seed).channels(channels).build());
    }

    private Model load() throws Failure {
        Path file = store.file(settings.algorithm, settings.model);
        Model model = Model.load(file);
        if (model.algorithm() != settings.algorithm) {
            String found = model.algorithm().id();
            model.close();
            throw new Failure(file + " is a model of " + found + "; expected one of " + settings.algorithm.id());
        }
        return model;
    }

    private static Intensities intensities(Slide slide, double downsample, int[] channels, Model model)
            throws IOException, Failure {
        Map<?, ?> percentiles = (Map<?, ?>) model.info().get("normalization");
        return Intensities.measure(slide, downsample, channels, ((Number) percentiles.get("pmin")).doubleValue(),
                ((Number) percentiles.get("pmax")).doubleValue());
    }

    private final class LocalSegmenter implements Segmenter {
        private final Model model;
        private final int[] channels;
        private final Intensities intensities;
        private final PredictOptions options;
        private final Set<String> told = ConcurrentHashMap.newKeySet();

        LocalSegmenter(Model model, int[] channels, Intensities intensities, PredictOptions options) {
            this.model = model;
            this.channels = channels;
            this.intensities = intensities;
            this.options = options;
        }

        @Override
        public List<Found> segment(Part part) throws Failure {
            Samples samples = intensities.apply(Samples.of(part.picture(), channels));
            try (Segmentation segmentation = model.predict(samples.image(), options)) {
                tell(segmentation.notes());
                Map<Integer, Float> probabilities = new HashMap<>();
                for (SegmentedObject object : segmentation.objects()) {
                    probabilities.put(object.id(), object.probability());
                }
                List<Found> found = new ArrayList<>();
                OutlineOptions exact = OutlineOptions.exact();
                for (Outline outline : segmentation.outlines(
                        settings.simplify > 0 ? exact.simplified(settings.simplify) : exact)) {
                    if (!outline.parts().isEmpty()) {
                        found.add(new Found(outline.toShape(), probabilities.getOrDefault(outline.id(), Float.NaN)));
                    }
                }
                return found;
            } catch (CellsparseException.Cancelled error) {
                throw new Stopped();
            }
        }

        /** Tells once what is to be known; a tile without objects is nothing strange. */
        private void tell(List<String> notes) {
            for (String note : notes) {
                if (!note.startsWith("nothing found") && told.add(note)) {
                    monitor.warn(note);
                }
            }
        }

        @Override
        public void close() {
            model.close();
        }
    }
}
