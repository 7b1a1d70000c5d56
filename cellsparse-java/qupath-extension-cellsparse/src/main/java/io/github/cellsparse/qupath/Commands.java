package io.github.cellsparse.qupath;

import io.github.cellsparse.Algorithm;
import io.github.cellsparse.qupath.work.Failure;
import io.github.cellsparse.qupath.work.Stopped;
import java.awt.Shape;
import java.awt.image.BufferedImage;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Executor;
import java.util.concurrent.atomic.AtomicReference;
import javafx.application.Platform;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import qupath.fx.dialogs.Dialogs;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.images.ImageData;
import qupath.lib.projects.Project;

/** The menu commands of one algorithm, or of the one that suits the drawn cells (null). Called on the JavaFX thread; the work runs on a thread of its own. */
final class Commands {
    private static final Logger LOG = LoggerFactory.getLogger(Commands.class);
    /** One run at a time: a second one would take the cores of the first. */
    private static final AtomicReference<RunTask> RUNNING = new AtomicReference<>();
    private static final Executor FX = Platform::runLater;
    /** Megapixels from which segmenting a whole image is asked about first. */
    private static final double MANY = 400;

    private final QuPathGUI qupath;
    private final Algorithm algorithm;

    Commands(QuPathGUI qupath, Algorithm algorithm) {
        this.qupath = qupath;
        this.algorithm = algorithm;
    }

    void train() {
        ImageData<BufferedImage> shown = qupath.getImageData();
        if (shown != null && !Preferences.of(algorithm).allImages.get() && FirstSteps.missing(shown.getHierarchy())) {
            if (Dialogs.showConfirmDialog(FirstSteps.TITLE, FirstSteps.TEXT)) {
                qupath.getAvailablePathClasses().addAll(FirstSteps.absent(qupath.getAvailablePathClasses()));
            }
            return;
        }
        start("Training", true, (imageData, project, builder) -> {
            CellsparseRun run = builder.build();
            boolean segments = Preferences.of(algorithm).segment.get();
            String model = model();
            ViewedImage image = viewed(imageData, project);
            return monitor -> {
                int count = run.train(imageData, project, monitor, image);
                return "The model '" + model + "' is trained" + (segments ? "; it finds " + objects(count) : "")
                        + image.outcome();
            };
        });
    }

    void predict() {
        start("Inference", false, (imageData, project, builder) -> {
            CellsparseRun run = builder.build();
            ViewedImage image = viewed(imageData, project);
            return monitor -> objects(run.predict(imageData, project, monitor, image)) + " found" + image.outcome();
        });
    }

    private static String objects(int count) {
        return count + (count == 1 ? " object" : " objects");
    }

    void reset() {
        if (!Dialogs.showConfirmDialog(name("Reset"), "Forget everything that the model '" + model() + "' has learned?")) {
            return;
        }
        guard("Reset", () -> {
            CellsparseRun run = builder().build();
            Project<BufferedImage> project = qupath.getProject();
            launch("Reset", false, monitor -> run.reset(project, monitor)
                    ? "Model is reset" : "There is no model '" + model() + "'; nothing to reset");
        });
    }

    void serverUrl() {
        String url = Dialogs.showInputDialog(name("Server URL"),
                "Address of a server, such as http://localhost:8000/" + algorithm.id() + "/ (empty: work in QuPath)",
                Preferences.of(algorithm).serverUrl.get());
        if (url != null) {
            Preferences.of(algorithm).serverUrl.set(url.strip());
        }
    }

    void settings() {
        SettingsDialog.show(algorithm, qupath.getStage());
    }

    private interface Preparation {
        RunTask.Job prepare(
                ImageData<BufferedImage> imageData, Project<BufferedImage> project, CellsparseRun.Builder builder)
                throws Failure;
    }

    private void start(String command, boolean training, Preparation preparation) {
        guard(command, () -> {
            ImageData<BufferedImage> imageData = qupath.getImageData();
            if (imageData == null) {
                throw new Failure("no image is open; open one first");
            }
            int z = qupath.getViewer().getZPosition();
            int t = qupath.getViewer().getTPosition();
            List<Shape> regions = QuPathObjects.selectedRegions(imageData.getHierarchy(), z, t);
            CellsparseRun.Builder builder = builder().plane(z, t).withinShapes(regions);
            boolean segments = !training || Preferences.of(algorithm).segment.get();
            if (segments && regions.isEmpty() && !confirmSize(imageData, builder)) {
                return;
            }
            launch(command, training, preparation.prepare(imageData, qupath.getProject(), builder));
        });
    }

    private ViewedImage viewed(ImageData<BufferedImage> imageData, Project<BufferedImage> project) {
        return new ViewedImage(imageData, project, () -> qupath.getAllViewers().stream().map(QuPathViewer::getImageData)
                .filter(Objects::nonNull).toList(), FX);
    }

    private boolean confirmSize(ImageData<BufferedImage> imageData, CellsparseRun.Builder builder) throws Failure {
        double pixels = builder.build().megapixels(imageData);
        return pixels <= MANY || Dialogs.showConfirmDialog(name("Whole image"), "The whole image has " + Math.round(pixels)
                + " megapixels at this resolution. Segment all of it? Select an annotation without a class to segment only"
                + " there, or choose a coarser resolution in the settings.");
    }

    private void launch(String command, boolean training, RunTask.Job job) throws Failure {
        RunTask task = new RunTask(job);
        if (!RUNNING.compareAndSet(null, task)) {
            throw new Failure("another run of Cellsparse is under way; wait for it, or stop it");
        }
        ProgressWindow window = new ProgressWindow(name(command), task, qupath.getStage(), training);
        task.setOnSucceeded(event -> end(task, window, () -> Dialogs.showInfoNotification(name(command), task.getValue())));
        task.setOnFailed(event -> end(task, window, () -> tell(command, task.getException())));
        Thread thread = new Thread(task, "cellsparse");
        thread.setDaemon(true);
        window.show();
        thread.start();
    }

    private void end(RunTask task, ProgressWindow window, Runnable message) {
        RUNNING.compareAndSet(task, null);
        window.close();
        message.run();
        if (!task.warnings().isEmpty()) {
            Dialogs.showWarningNotification("Cellsparse", String.join("\n", task.warnings()));
        }
    }

    private void tell(String command, Throwable error) {
        if (error instanceof Stopped) {
            Dialogs.showInfoNotification(name(command), error.getMessage());
        } else if (error instanceof Failure) {
            LOG.warn("{}: {}", name(command), error.getMessage(), error.getCause());
            Dialogs.showErrorMessage(name(command), error.getMessage());
        } else {
            LOG.error(name(command), error);
            Dialogs.showErrorMessage(name(command), "An unexpected error, please report it with the log: " + error);
        }
    }

    private interface Action {
        void run() throws Failure;
    }

    private void guard(String command, Action action) {
        try {
            action.run();
        } catch (Failure | RuntimeException error) {
            tell(command, error);
        }
    }

    private CellsparseRun.Builder builder() throws Failure {
        Preferences preferences = Preferences.of(algorithm);
        CellsparseRun.Builder builder = preferences.builder(algorithm);
        return qupath.getProject() == null ? builder.modelFolder(preferences.modelFolder()) : builder;
    }

    private String model() {
        return Preferences.of(algorithm).model.get();
    }

    private String name(String command) {
        return "Cellsparse " + CellsparseExtension.title(algorithm) + ": " + command;
    }
}
