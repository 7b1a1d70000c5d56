package io.github.cellsparse.qupath;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.function.Consumer;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import qupath.lib.images.ImageData;
import qupath.lib.projects.Project;
import qupath.lib.projects.ProjectImageEntry;

/**
 * An image that a command was called for, and that may have been closed or opened anew when the results come: they go to
 * where its image is shown, or else into its project.
 */
final class ViewedImage implements Receiver {
    private static final Logger LOG = LoggerFactory.getLogger(ViewedImage.class);

    private final ImageData<BufferedImage> imageData;
    private final Project<BufferedImage> project;
    private final Supplier<List<ImageData<BufferedImage>>> shown;
    private final Executor thread;
    private volatile String outcome = "";

    /**
     * An image that is shown now.
     *
     * @param project the project that is open now, or null
     * @param shown the images that are shown when it is asked, on {@code thread}
     * @param thread where images may be changed
     */
    ViewedImage(ImageData<BufferedImage> imageData, Project<BufferedImage> project,
            Supplier<List<ImageData<BufferedImage>>> shown, Executor thread) {
        this.imageData = imageData;
        this.project = project;
        this.shown = shown;
        this.thread = thread;
    }

    @Override
    public void change(Consumer<ImageData<BufferedImage>> change) {
        CompletableFuture.runAsync(() -> outcome = put(change), thread).join();
    }

    /** What became of the last change, to add to a message; empty if it is seen. */
    String outcome() {
        return outcome;
    }

    private String put(Consumer<ImageData<BufferedImage>> change) {
        List<ImageData<BufferedImage>> images = shown.get();
        if (images.stream().anyMatch(image -> image == imageData)) {
            change.accept(imageData);
            return "";
        }
        ProjectImageEntry<BufferedImage> entry = project == null ? null : project.getEntry(imageData);
        if (entry == null) {
            return ". The image was closed meanwhile and is in no project, so the results could not be shown; open it and run"
                    + " Inference";
        }
        for (ImageData<BufferedImage> image : images) {
            ProjectImageEntry<BufferedImage> other = project.getEntry(image);
            if (other != null && other.getID().equals(entry.getID())) {
                change.accept(image);
                return "";
            }
        }
        try {
            save(entry, change);
            return ". The image '" + entry.getImageName() + "' was closed meanwhile; the results are saved in the project";
        } catch (IOException | RuntimeException error) {
            LOG.warn("The results for {} are lost", entry.getImageName(), error);
            return ". The image '" + entry.getImageName() + "' was closed meanwhile, and the results could not be saved in the"
                    + " project (" + error.getMessage() + "); open it and run Inference";
        }
    }

    /** Changes an image as it is saved: what was not saved when it was closed stays away, and what was saved since stays. */
    private static void save(ProjectImageEntry<BufferedImage> entry, Consumer<ImageData<BufferedImage>> change)
            throws IOException {
        ImageData<BufferedImage> saved = entry.readImageData();
        change.accept(saved);
        entry.saveImageData(saved);
        try {
            saved.getServer().close();
        } catch (Exception error) {
            LOG.debug("{} cannot be closed", entry.getImageName(), error);
        }
    }
}
