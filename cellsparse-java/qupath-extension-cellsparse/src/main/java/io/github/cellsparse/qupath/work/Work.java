package io.github.cellsparse.qupath.work;

import io.github.cellsparse.Algorithm;
import io.github.cellsparse.AlgorithmChoice;
import io.github.cellsparse.CellsparseException;
import io.github.cellsparse.TrainingSummary;
import java.awt.Rectangle;
import java.awt.Shape;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** The commands: training, inference and reset, in this process or on a server. All block. */
public final class Work {
    private static final String UNLEARNED = "Stopped before the first step; nothing was learned.";

    /** Names an algorithm from the first command on. */
    private Settings settings;
    private final ModelStore store;
    private final Monitor monitor;

    /** Commands with some settings, for the models of a store. */
    public Work(Settings settings, ModelStore store, Monitor monitor) {
        this.settings = settings;
        this.store = store;
        this.monitor = monitor;
    }

    /** Trains on annotated images. Stopped early, the model keeps what it learned so far. */
    public void train(List<Subject> subjects) throws Failure {
        guard(() -> {
            choose(annotated(subjects));
            train(annotated(subjects), null);
            return null;
        });
    }

    /**
     * Trains on annotated images, then segments one. A server is asked for both at once where it can be: when the only
     * subject opens as {@code slide} itself, and that is segmented whole.
     *
     * @param areas what to segment; none means the whole slide
     * @param trained called as soon as all steps are done and the model is saved
     */
    public List<Found> trainAndPredict(List<Subject> subjects, Slide slide, List<Shape> areas, Runnable trained)
            throws Failure {
        return guard(() -> {
            Inference.check(slide, areas);
            choose(annotated(subjects));
            List<Found> found = train(annotated(subjects), areas.isEmpty() ? slide : null);
            trained.run();
            return found != null ? found
                    : orStopped("Stopped. The model is trained, and nothing is segmented.", () -> segment(slide, areas));
        });
    }

    /**
     * Segments an image.
     *
     * @param areas what to segment; none means the whole slide
     */
    public List<Found> predict(Slide slide, List<Shape> areas) throws Failure {
        return guard(() -> {
            if (!choose(List.of())) {
                throw new Failure("there is no model '" + settings.model + "' yet; train it first");
            }
            return segment(slide, areas);
        });
    }

    /**
     * Forgets the model.
     *
     * @return whether there was one; a server does not tell, so true
     */
    public boolean reset() throws Failure {
        return guard(() -> {
            if (settings.algorithm == null && !choose(List.of())) {
                return false;
            }
            if (settings.isRemote()) {
                new RemoteWork(settings, monitor).reset();
                return true;
            }
            return store.reset(settings.algorithm, settings.model);
        });
    }

    /**
     * Settles the algorithm, if the settings name none: that of the model of the name, or the one that suits what is drawn.
     *
     * @return whether there is one; without subjects only if there is a model
     */
    private boolean choose(List<Subject> subjects) throws IOException, Failure {
        if (settings.algorithm != null) {
            return true;
        }
        if (settings.isRemote()) {
            throw new Failure("a server works for one algorithm; take the menu of StarDist, Cellpose or ELEPHANT");
        }
        for (Algorithm algorithm : Algorithm.values()) {
            if (store.exists(algorithm, settings.model)) {
                settings = settings.with(algorithm);
                return true;
            }
        }
        if (subjects.isEmpty()) {
            return false;
        }
        LocalWork trial = new LocalWork(settings.with(Algorithm.STARDIST), store, monitor);
        AlgorithmChoice choice = orStopped(UNLEARNED, () -> trial.choose(subjects));
        monitor.warn(choice.reason());
        settings = settings.with(choice.algorithm());
        return true;
    }

    private static List<Subject> annotated(List<Subject> subjects) throws Failure {
        List<Subject> annotated = new ArrayList<>();
        for (Subject subject : subjects) {
            if (subject.drawings().stream().anyMatch(Drawing::isForeground)) {
                annotated.add(subject);
            }
        }
        if (annotated.isEmpty()) {
            boolean background = subjects.stream().anyMatch(subject -> !subject.drawings().isEmpty());
            throw new Failure("there is no annotation of the class Foreground"
                    + (background ? " (Background alone does not show what a cell is)" : "")
                    + "; outline at least one whole cell, set its class to Foreground, and train again");
        }
        return annotated;
    }

    /**
     * Trains.
     *
     * @param wanted a slide whose objects are wanted too, or null
     * @return the objects of {@code wanted} if the training came with them, or null
     */
    private List<Found> train(List<Subject> subjects, Slide wanted) throws IOException, Failure {
        if (settings.isRemote()) {
            return trainRemotely(subjects, wanted);
        }
        TrainingSummary summary = orStopped(UNLEARNED, () -> new LocalWork(settings, store, monitor).train(subjects));
        if (summary.stopped() == TrainingSummary.StopReason.CANCELLED
                && (settings.steps == 0 || summary.steps() < settings.steps)) {
            throw new Stopped(summary.steps() == 0 ? UNLEARNED
                    : "Stopped. The model keeps what it has learned in " + summary.steps() + " step(s).");
        }
        return null;
    }

    private List<Found> trainRemotely(List<Subject> subjects, Slide wanted) throws IOException, Failure {
        RemoteWork remote = new RemoteWork(settings, monitor);
        List<RemoteWork.Region> regions = new ArrayList<>();
        Part frame = orStopped(UNLEARNED, () -> collect(subjects, wanted, remote, regions));
        if (regions.isEmpty()) {
            throw new Failure("no Foreground annotation covers a pixel at this resolution; choose a finer one");
        }
        boolean eval = frame != null && regions.size() == 1;
        List<Found> found = remote.train(regions, eval);
        return eval ? found.stream().map(frame::place).toList() : null;
    }

    /**
     * Reads what is drawn.
     *
     * @return the last region, if that is {@code wanted} as a whole, or else null
     */
    private Part collect(List<Subject> subjects, Slide wanted, RemoteWork remote, List<RemoteWork.Region> regions)
            throws IOException, Failure {
        Part frame = null;
        int count = 0;
        for (Subject subject : subjects) {
            monitor.check();
            monitor.message("Reading " + subject.name());
            try (Slide slide = subject.open()) {
                double downsample = settings.downsample(slide);
                List<Drawing> drawings = subject.drawings();
                Crops crops = Crops.plan(slide.width(), slide.height(), drawings, downsample, settings.serverPatchSize());
                int[] channels = settings.channels(slide);
                count = count == 0 ? channels.length : count;
                checkChannels(slide, channels.length, count);
                Intensities intensities = remote.intensities(slide);
                for (Rectangle area : crops.parts()) {
                    monitor.check();
                    Part part = Part.read(slide, area, downsample);
                    LabelMap labels = LabelMap.draw(drawings, part);
                    if (labels.objects() > 0) {
                        regions.add(new RemoteWork.Region(
                                Pictures.Raw.of(part.picture(), channels, intensities), labels));
                        frame = slide == wanted && area.equals(part.slideBounds()) ? part : null;
                    }
                }
            }
        }
        return frame;
    }

    /** Refuses an image that has other channels than those before it. */
    static void checkChannels(Slide slide, int channels, int before) throws Failure {
        if (channels != before) {
            throw new Failure("the image '" + slide.name() + "' has " + channels + " channel(s), those before it have " + before
                    + "; choose the channels to work with, or train on this image alone");
        }
    }

    private List<Found> segment(Slide slide, List<Shape> areas) throws IOException, Failure {
        if (!settings.isRemote()) {
            return new LocalWork(settings, store, monitor).segment(slide, areas);
        }
        try (Segmenter segmenter = new RemoteWork(settings, monitor).segmenter(slide)) {
            return Inference.run(slide, areas, settings, segmenter, monitor);
        }
    }

    private interface Command<T> {
        T run() throws IOException, Failure;
    }

    /** Runs a part of a command; if it is stopped, that is told with the given words. */
    private static <T> T orStopped(String message, Command<T> part) throws IOException, Failure {
        try {
            return part.run();
        } catch (Stopped | CellsparseException.Cancelled error) {
            throw new Stopped(message);
        }
    }

    /** Runs a command and tells every failure in one way. */
    private static <T> T guard(Command<T> command) throws Failure {
        try {
            return command.run();
        } catch (CellsparseException.Cancelled error) {
            throw new Stopped();
        } catch (CellsparseException | IllegalArgumentException error) {
            throw new Failure(error.getMessage(), error);
        } catch (IOException error) {
            throw new Failure("reading or writing failed: " + error.getMessage(), error);
        } catch (OutOfMemoryError error) {
            throw new Failure("there is not enough memory; choose a coarser resolution or smaller tiles, or give QuPath more "
                    + "memory", error);
        }
    }
}
