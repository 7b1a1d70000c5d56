package io.github.cellsparse.qupath;

import io.github.cellsparse.Algorithm;
import io.github.cellsparse.qupath.work.Failure;
import io.github.cellsparse.qupath.work.Found;
import io.github.cellsparse.qupath.work.ModelStore;
import io.github.cellsparse.qupath.work.Monitor;
import io.github.cellsparse.qupath.work.Settings;
import io.github.cellsparse.qupath.work.Subject;
import io.github.cellsparse.qupath.work.Work;
import java.awt.Shape;
import java.awt.geom.Rectangle2D;
import java.awt.image.BufferedImage;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import qupath.lib.images.ImageData;
import qupath.lib.plugins.workflow.DefaultScriptableWorkflowStep;
import qupath.lib.projects.Project;
import qupath.lib.scripting.QP;

/**
 * Trains and segments, from scripts and from the menus. Methods block until the work is done and use nothing of the user
 * interface. In a script:
 *
 * <pre>{@code
 * io.github.cellsparse.qupath.CellsparseRun.builder("stardist")
 *     .model("nuclei")
 *     .timeBudget(30)
 *     .build()
 *     .train(getCurrentImageData())
 * }</pre>
 */
public final class CellsparseRun {
    /** The name that stands for no algorithm in particular. */
    static final String AUTO = "auto";

    private final Settings settings;
    private final Builder options;

    CellsparseRun(Settings settings, Builder options) {
        this.settings = settings;
        this.options = options;
    }

    /**
     * A run with the defaults.
     *
     * @param algorithm {@code stardist}, {@code cellpose}, {@code elephant}, or {@code auto} for that of the model, and for a new
     *     model the one that suits the drawn cells best
     */
    public static Builder builder(String algorithm) {
        return new Builder(algorithm.equals(AUTO) ? null : Algorithm.of(algorithm));
    }

    /**
     * Trains on the annotations of an image and then segments it, or only trains if {@link Builder#segment} is false.
     *
     * @return objects found
     * @throws Failure if that is not possible; the message says why and what to do
     */
    public int train(ImageData<BufferedImage> imageData) throws Failure {
        return train(imageData, QP.getProject(), new LogMonitor(), Receiver.of(imageData));
    }

    /**
     * Segments an image with the model.
     *
     * @return objects found
     * @throws Failure if that is not possible; the message says why and what to do
     */
    public int predict(ImageData<BufferedImage> imageData) throws Failure {
        return predict(imageData, QP.getProject(), new LogMonitor(), Receiver.of(imageData));
    }

    /**
     * Forgets the model.
     *
     * @return whether there was one
     * @throws Failure if it cannot be deleted
     */
    public boolean reset() throws Failure {
        return reset(QP.getProject(), new LogMonitor());
    }

    /** The calls that make this run, for a script. */
    @Override
    public String toString() {
        return options.script(options.areas, options.selected) + "    .build()";
    }

    /** As {@link #train(ImageData)}; what comes of it goes to {@code receiver}. */
    int train(ImageData<BufferedImage> imageData, Project<BufferedImage> project, Monitor monitor, Receiver receiver)
            throws Failure {
        QuPathSlide slide = slide(imageData);
        List<Shape> areas = options.segment ? areas(imageData) : options.areas;
        List<Subject> subjects = new ArrayList<>();
        subjects.add(QuPathSubjects.open(imageData, slide, options.z, options.t));
        if (options.allImages && project != null) {
            subjects.addAll(QuPathSubjects.others(project, imageData, options.z, options.t));
        }
        Work work = new Work(settings, store(project), monitor);
        Runnable trained = () -> note(receiver, "training", "train(getCurrentImageData())", areas, !options.segment);
        if (options.segment) {
            return show(receiver, work.trainAndPredict(subjects, slide, areas, trained), areas);
        }
        work.train(subjects);
        trained.run();
        return 0;
    }

    /** As {@link #predict(ImageData)}; what comes of it goes to {@code receiver}. */
    int predict(ImageData<BufferedImage> imageData, Project<BufferedImage> project, Monitor monitor, Receiver receiver)
            throws Failure {
        List<Shape> areas = areas(imageData);
        List<Found> found = new Work(settings, store(project), monitor).predict(slide(imageData), areas);
        int count = show(receiver, found, areas);
        note(receiver, "inference", "predict(getCurrentImageData())", areas, false);
        return count;
    }

    /** As {@link #reset()}. */
    boolean reset(Project<BufferedImage> project, Monitor monitor) throws Failure {
        return new Work(settings, store(project), monitor).reset();
    }

    /** Megapixels of an image at the resolution of this run. */
    double megapixels(ImageData<BufferedImage> imageData) throws Failure {
        QuPathSlide slide = slide(imageData);
        double downsample = settings.downsample(slide);
        return slide.width() / downsample * (slide.height() / downsample) / 1e6;
    }

    private QuPathSlide slide(ImageData<BufferedImage> imageData) throws Failure {
        if (imageData == null) {
            throw new Failure("no image is open; open one first");
        }
        return new QuPathSlide(imageData.getServer(), options.z, options.t, false);
    }

    private List<Shape> areas(ImageData<BufferedImage> imageData) throws Failure {
        if (imageData == null) {
            throw new Failure("no image is open; open one first");
        }
        List<Shape> areas = new ArrayList<>(options.areas);
        if (options.selected) {
            areas.addAll(QuPathObjects.selectedRegions(imageData.getHierarchy(), options.z, options.t));
            if (areas.isEmpty()) {
                throw new Failure("no region is selected; select annotations that are neither Foreground nor Background");
            }
        }
        return areas;
    }

    /** The models of the project, or of the folder for work without one. */
    private ModelStore store(Project<BufferedImage> project) {
        if (options.modelFolder != null) {
            return new ModelStore(options.modelFolder);
        }
        if (project != null && project.getPath() != null) {
            return ModelStore.ofProject(project.getPath().getParent());
        }
        return new ModelStore(Path.of(System.getProperty("user.home"), ".cellsparse", "qupath"));
    }

    private int show(Receiver receiver, List<Found> found, List<Shape> areas) {
        receiver.change(imageData -> QuPathObjects.replace(
                imageData.getHierarchy(), found, areas, options.detections, options.z, options.t));
        return found.size();
    }

    /**
     * Adds the script of the run to the history.
     *
     * @param unresolved whether {@code areas} lacks those of the selection
     */
    private void note(Receiver receiver, String command, String call, List<Shape> areas, boolean unresolved) {
        String script = options.script(areas, unresolved && options.selected) + "    .build()\n    ." + call;
        receiver.change(imageData -> imageData.getHistoryWorkflow().addStep(
                new DefaultScriptableWorkflowStep("Cellsparse " + id(settings.algorithm) + " " + command, script)));
    }

    /** The name of an algorithm in scripts and preferences; null has one too. */
    static String id(Algorithm algorithm) {
        return algorithm == null ? AUTO : algorithm.id();
    }

    /** Builds a {@link CellsparseRun}. What is not set has its default. */
    public static final class Builder {
        /** Characters of all regions in a script, at most; beyond them it asks for the selection. */
        private static final int LONGEST_REGIONS = 100_000;
        /** Characters of one region in a script, at most; Groovy takes no text of 65,536. */
        private static final int LONGEST_REGION = 65_000;

        private final Algorithm algorithm;
        private final Settings.Builder settings;
        private final Map<String, String> calls = new LinkedHashMap<>();
        private final List<Shape> areas = new ArrayList<>();
        private boolean selected;
        private boolean detections = true;
        private boolean allImages;
        private boolean segment = true;
        private Path modelFolder;
        private int z;
        private int t;

        Builder(Algorithm algorithm) {
            this.algorithm = algorithm;
            settings = Settings.builder(algorithm);
        }

        /** Name of the model: letters and digits. Default {@code default}. */
        public Builder model(String value) {
            settings.model(value);
            return note("model", value, "default");
        }

        /** A server that does the work, such as {@code http://localhost:8000}. Default: none, the work is done here. */
        public Builder serverUrl(String value) {
            settings.serverUrl(value);
            return note("serverUrl", value, "");
        }

        /** Seconds of a training here, with the choice of its thresholds, when no steps are set. Default 60. */
        public Builder timeBudget(double seconds) {
            settings.timeBudget(seconds);
            return note("timeBudget", seconds, 60.0);
        }

        /** Optimiser steps of the training. Default 0: as many as fit into the time; 200 on a server. */
        public Builder steps(int value) {
            settings.steps(value);
            return note("steps", value, 0);
        }

        /** Patches in a batch. Default 0: what measures best; 8 on a server. */
        public Builder batchSize(int value) {
            settings.batchSize(value);
            return note("batchSize", value, 0);
        }

        /** Side of the training patches in pixels of the chosen resolution. Default 0: what measures best; 224 on a server. */
        public Builder patchSize(int value) {
            settings.patchSize(value);
            return note("patchSize", value, 0);
        }

        /** Learning rate. Default 0: the one that measures best. */
        public Builder learningRate(double value) {
            settings.learningRate(value);
            return note("learningRate", value, 0.0);
        }

        /** Seed of the first weights and of the training. Default 0. */
        public Builder seed(long value) {
            settings.seed(value);
            return note("seed", value, 0L);
        }

        /** Compute threads; the result does not depend on it. Default 0: one per core. */
        public Builder threads(int value) {
            settings.threads(value);
            return note("threads", value, 0);
        }

        /** Full-resolution pixels along a pixel to work with. Default 0: {@link #pixelSize} decides. */
        public Builder downsample(double value) {
            settings.downsample(value);
            return note("downsample", value, 0.0);
        }

        /** Micrometres along a pixel to work with. Default 0: full resolution. */
        public Builder pixelSize(double value) {
            settings.pixelSize(value);
            return note("pixelSize", value, 0.0);
        }

        /** Side of a tile in pixels of the chosen resolution. Default 1024. */
        public Builder tileSize(int value) {
            settings.tileSize(value);
            return note("tileSize", value, 1024);
        }

        /** Pixels read around a tile; more than the largest object has. Default 128. */
        public Builder overlap(int value) {
            settings.overlap(value);
            return note("overlap", value, 128);
        }

        /** Objects with fewer pixels (of the chosen resolution) are left out. Default 10. */
        public Builder minArea(double value) {
            settings.minArea(value);
            return note("minArea", value, 10.0);
        }

        /** Tolerance of outlines in pixels of the chosen resolution. Default 0: exact. */
        public Builder simplify(double value) {
            settings.simplify(value);
            return note("simplify", value, 0.0);
        }

        /** Smallest object probability, for StarDist and ELEPHANT. Default 0: the model's. */
        public Builder probability(double value) {
            settings.probability(value);
            return note("probability", value, 0.0);
        }

        /** Diameter of the cells in pixels of the chosen resolution, for Cellpose. Default 0: the model's. */
        public Builder diameter(double value) {
            settings.diameter(value);
            return note("diameter", value, 0.0);
        }

        /** Channels to work with, the first is 1. Default: all. */
        public Builder channels(int... values) {
            int[] fromZero = Arrays.stream(values).map(value -> value - 1).toArray();
            settings.channels(fromZero);
            return note("channels", Arrays.stream(values).mapToObj(String::valueOf).collect(Collectors.joining(", ")), "", "%s");
        }

        /** Detections as results, or else annotations. Default true. */
        public Builder detections(boolean value) {
            detections = value;
            return note("detections", value, true);
        }

        /** Train on the annotated other images of the project too, as they were saved. Default false. */
        public Builder allImages(boolean value) {
            allImages = value;
            return note("allImages", value, false);
        }

        /** Segment after a training. Default true. */
        public Builder segment(boolean value) {
            segment = value;
            return note("segment", value, true);
        }

        /** Where models are kept. Default: {@code models/cellsparse} in the project. */
        public Builder modelFolder(String folder) {
            modelFolder = folder == null || folder.isBlank() ? null : Path.of(folder);
            return note("modelFolder", modelFolder == null ? "" : folder, "");
        }

        /** Slice of a stack and point in time to work with. Default 0, 0. */
        public Builder plane(int slice, int time) {
            z = slice;
            t = time;
            return note("plane", slice + ", " + time, "0, 0", "%s");
        }

        /** Segment inside this rectangle (in full-resolution pixels) only; may be called again for more. */
        public Builder within(double x, double y, double width, double height) {
            areas.add(new Rectangle2D.Double(x, y, width, height));
            return this;
        }

        /**
         * Segment inside this region only; may be called again for more.
         *
         * @param rings its corners in full-resolution pixels, such as {@code 0,0 100,0 100,50}; further rings, such as holes,
         *     behind semicolons, by the even-odd rule
         */
        public Builder withinPolygon(String rings) {
            areas.add(Regions.read(rings));
            return this;
        }

        /** Segment inside the annotations that are selected when the run begins, if they are regions and not labels. */
        public Builder withinSelected() {
            selected = true;
            return this;
        }

        /** Segment inside shapes; for the menus. */
        Builder withinShapes(List<Shape> shapes) {
            areas.addAll(shapes);
            return this;
        }

        /** The calls that make this builder, for a script. */
        private String script(List<Shape> where, boolean within) {
            StringBuilder script = new StringBuilder("io.github.cellsparse.qupath.CellsparseRun.builder('")
                    .append(id(algorithm)).append("')\n");
            calls.values().forEach(call -> script.append("    .").append(call).append('\n'));
            boolean selection = within;
            int left = LONGEST_REGIONS;
            for (Shape area : where) {
                String call = call(area);
                if (call.length() > Math.min(LONGEST_REGION, left)) {
                    selection = true;
                } else {
                    left -= call.length();
                    script.append("    .").append(call).append('\n');
                }
            }
            return script.append(selection ? "    .withinSelected()\n" : "").toString();
        }

        private static String call(Shape area) {
            String rings = Regions.isRectangle(area) ? "" : Regions.write(area);
            if (!rings.isEmpty()) {
                return "withinPolygon('" + rings + "')";
            }
            Rectangle2D box = area.getBounds2D();
            return "within(" + box.getX() + ", " + box.getY() + ", " + box.getWidth() + ", " + box.getHeight() + ")";
        }

        private Builder note(String name, Object value, Object usual) {
            return note(name, value, usual, value instanceof String ? "'%s'" : "%s");
        }

        /** Remembers a call for the script, unless it asks for what is usual. */
        private Builder note(String name, Object value, Object usual, String form) {
            if (value == null || value.equals(usual)) {
                calls.remove(name);
            } else {
                String text = value.toString().replace("\\", "\\\\").replace("'", "\\'");
                calls.put(name, name + "(" + String.format(Locale.ROOT, form, text) + ")");
            }
            return this;
        }

        /** The run. */
        public CellsparseRun build() throws Failure {
            return new CellsparseRun(settings.build(), this);
        }
    }
}
