package io.github.cellsparse.qupath;

import io.github.cellsparse.CancelToken;
import io.github.cellsparse.qupath.work.Clicks;
import io.github.cellsparse.qupath.work.Failure;
import io.github.cellsparse.qupath.work.Found;
import java.awt.Rectangle;
import java.awt.geom.Point2D;
import java.awt.geom.Rectangle2D;
import java.awt.image.BufferedImage;
import java.io.File;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import javafx.application.Platform;
import javafx.beans.property.StringProperty;
import javafx.event.EventHandler;
import javafx.scene.Cursor;
import javafx.scene.control.CheckMenuItem;
import javafx.scene.input.MouseButton;
import javafx.scene.input.MouseEvent;
import javafx.stage.FileChooser;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import qupath.fx.dialogs.Dialogs;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.prefs.PathPrefs;
import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;

/**
 * The menu item {@code Outline by click}: while it is ticked, clicks and boxes in the viewers become annotations. On the JavaFX thread; the
 * network works on a thread of its own.
 */
final class ClickTool {
    private static final Logger LOG = LoggerFactory.getLogger(ClickTool.class);
    private static final String TITLE = "Cellsparse: Outline by click";
    private static final StringProperty WEIGHTS = PathPrefs.createPersistentPreference("cellsparse.sam.weights", "");
    /** The class where none is set automatically: cells that a training learns from. */
    private static final String FOREGROUND = "Foreground";
    /** Pixels of the screen that the mouse moves in a click at most. */
    private static final double STILL = 5;

    private final QuPathGUI qupath;
    private final CheckMenuItem item = new CheckMenuItem("Outline by click");
    private final Map<QuPathViewer, EventHandler<MouseEvent>> handlers = new HashMap<>();
    private final ClickedObjects objects = new ClickedObjects();
    private final ExecutorService worker = Executors.newSingleThreadExecutor(work -> {
        Thread thread = new Thread(work, "cellsparse-outline");
        thread.setDaemon(true);
        return thread;
    });
    private CancelToken running = new CancelToken();

    ClickTool(QuPathGUI qupath) {
        this.qupath = qupath;
        item.setOnAction(event -> {
            if (item.isSelected()) {
                begin();
            } else {
                end();
            }
        });
    }

    CheckMenuItem item() {
        return item;
    }

    /** Asks for the file of the weights. */
    boolean chooseWeights() {
        FileChooser chooser = new FileChooser();
        chooser.setTitle("Weights of SAM or MobileSAM, such as mobile_sam.pt");
        chooser.getExtensionFilters().addAll(
                new FileChooser.ExtensionFilter("Weights of SAM", "*.pt", "*.pth", "*.safetensors"),
                new FileChooser.ExtensionFilter("All files", "*.*"));
        Path known = weights();
        if (known != null && known.getParent() != null && known.getParent().toFile().isDirectory()) {
            chooser.setInitialDirectory(known.getParent().toFile());
        }
        File file = chooser.showOpenDialog(qupath.getStage());
        if (file == null) {
            return false;
        }
        WEIGHTS.set(file.getAbsolutePath());
        return true;
    }

    static Path weights() {
        try {
            return WEIGHTS.get() == null || WEIGHTS.get().isBlank() ? null : Path.of(WEIGHTS.get());
        } catch (InvalidPathException error) {
            return null;
        }
    }

    private void begin() {
        if (weights() == null) {
            Dialogs.showInfoNotification(TITLE, Clicks.SOURCES);
            if (!chooseWeights()) {
                item.setSelected(false);
                return;
            }
        }
        for (QuPathViewer viewer : qupath.getAllViewers()) {
            EventHandler<MouseEvent> handler = new Mouse(viewer);
            handlers.put(viewer, handler);
            viewer.getView().addEventFilter(MouseEvent.ANY, handler);
            viewer.getView().setCursor(Cursor.CROSSHAIR);
        }
        Dialogs.showInfoNotification(TITLE, "Click on a cell, or drag a box around it. Shift: not this; Ctrl: this too. Choose the menu"
                + " item again to end.");
    }

    private void end() {
        running.cancel();
        handlers.forEach((viewer, handler) -> {
            viewer.getView().removeEventFilter(MouseEvent.ANY, handler);
            viewer.getView().setCursor(null);
        });
        handlers.clear();
        worker.execute(objects::close);
    }

    /** A click is a point, a drag a box; the space bar moves the image as ever. */
    private final class Mouse implements EventHandler<MouseEvent> {
        private final QuPathViewer viewer;
        private MouseEvent pressed;

        Mouse(QuPathViewer viewer) {
            this.viewer = viewer;
        }

        @Override
        public void handle(MouseEvent event) {
            ImageData<BufferedImage> imageData = viewer.getImageData();
            boolean begins = event.getEventType() == MouseEvent.MOUSE_PRESSED;
            if (imageData == null || begins && (event.getButton() != MouseButton.PRIMARY || viewer.isSpaceDown())) {
                return;
            }
            if (begins) {
                pressed = event;
                event.consume();
            } else if (pressed != null && event.getEventType() == MouseEvent.MOUSE_RELEASED) {
                MouseEvent first = pressed;
                pressed = null;
                event.consume();
                released(imageData, first, event);
            } else if (pressed != null || event.getEventType() == MouseEvent.MOUSE_CLICKED
                    && event.getButton() == MouseButton.PRIMARY) {
                event.consume();
            }
        }

        private void released(ImageData<BufferedImage> imageData, MouseEvent first, MouseEvent event) {
            Point2D from = viewer.componentPointToImagePoint(first.getX(), first.getY(), null, true);
            boolean still = Math.hypot(event.getX() - first.getX(), event.getY() - first.getY()) <= STILL;
            ClickedObjects.Asked asked;
            if (still) {
                ClickedObjects.Kind kind = event.isShiftDown() ? ClickedObjects.Kind.BESIDE
                        : event.isShortcutDown() ? ClickedObjects.Kind.INSIDE : ClickedObjects.Kind.NEW;
                asked = objects.clicked(imageData.getHierarchy(), from.getX(), from.getY(), kind);
            } else {
                Point2D to = viewer.componentPointToImagePoint(event.getX(), event.getY(), null, true);
                Rectangle2D.Double box = new Rectangle2D.Double();
                box.setFrameFromDiagonal(from, to);
                asked = box.isEmpty() ? null : objects.boxed(imageData.getHierarchy(), box);
            }
            if (asked != null) {
                ask(imageData, asked);
            }
        }

        private void ask(ImageData<BufferedImage> imageData, ClickedObjects.Asked asked) {
            int z = viewer.getZPosition();
            int t = viewer.getTPosition();
            Rectangle view = viewer.getDisplayedRegionShape().getBounds();
            var display = viewer.getImageDisplay();
            // It is not safe to be used by other threads.
            ClickedObjects.Seen seen = new ClickedObjects.Seen(new QuPathSlide(imageData.getServer(), z, t, false),
                    imageData.getHierarchy(), picture -> CompletableFuture.supplyAsync(
                            () -> display.applyTransforms(picture, null), Platform::runLater).join(), view, z, t);
            Path weights = weights();
            CancelToken cancel = new CancelToken();
            running = cancel;
            viewer.getView().setCursor(Cursor.WAIT);
            worker.execute(() -> {
                try {
                    Optional<Found> found = objects.find(weights, seen, asked, cancel);
                    Platform.runLater(() -> show(seen, asked, found));
                } catch (Failure | RuntimeException error) {
                    Platform.runLater(() -> tell(error, cancel));
                } finally {
                    Platform.runLater(() -> viewer.getView().setCursor(item.isSelected() ? Cursor.CROSSHAIR : null));
                }
            });
        }
    }

    private void show(ClickedObjects.Seen seen, ClickedObjects.Asked asked, Optional<Found> found) {
        if (found.isEmpty()) {
            Dialogs.showWarningNotification(TITLE, "Nothing was found there. Click elsewhere, or drag a box around the cell.");
            return;
        }
        PathObject object = objects.put(seen, asked, found.get(), chosenClass());
        seen.hierarchy().getSelectionModel().setSelectedObject(object);
    }

    /** The class that new annotations get automatically, or else that of cells to learn from. */
    static PathClass chosenClass() {
        PathClass chosen = PathPrefs.autoSetAnnotationClassProperty().get();
        return chosen == null ? PathClass.fromString(FOREGROUND) : chosen;
    }

    private static void tell(Throwable error, CancelToken cancel) {
        if (cancel.isCancelled()) {
            return;
        }
        if (error instanceof Failure) {
            LOG.warn("{}: {}", TITLE, error.getMessage(), error.getCause());
            Dialogs.showErrorMessage(TITLE, error.getMessage());
        } else {
            LOG.error(TITLE, error);
            Dialogs.showErrorMessage(TITLE, "An unexpected error, please report it with the log: " + error);
        }
    }
}
