package io.github.cellsparse.qupath.work;

import io.github.cellsparse.CancelToken;
import io.github.cellsparse.CellsparseException;
import io.github.cellsparse.Image;
import io.github.cellsparse.Outline;
import io.github.cellsparse.OutlineOptions;
import io.github.cellsparse.Sam;
import io.github.cellsparse.SamPrompt;
import io.github.cellsparse.Segmentation;
import io.github.cellsparse.SegmentedObject;
import java.awt.Rectangle;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.function.UnaryOperator;

/** Outlines by click: the network that was loaded last, and what it is asked. One call at a time. */
public final class Clicks implements AutoCloseable {
    /** Where weights come from. */
    public static final String SOURCES = "Weights of SAM are files that you get once: weights/mobile_sam.pt (40 MB) from"
            + " https://github.com/ChaoningZhang/MobileSAM, or those of"
            + " https://github.com/facebookresearch/segment-anything#model-checkpoints";

    private Path loaded;
    private Sam sam;

    /**
     * The object that a prompt points at, as an area in full-resolution pixels; none where nothing was found. The first time in a part
     * of an image it takes seconds.
     *
     * @param weights the file of the network
     * @param slide the image
     * @param shown from pixels as they are read to pixels as they are looked at
     * @param view what is seen, in full-resolution pixels
     * @throws Failure if there are no weights, they cannot be used, or the prompt lies outside the image
     */
    public synchronized Optional<Found> outline(Path weights, Slide slide, UnaryOperator<BufferedImage> shown, Rectangle view,
            SamPrompt prompt, CancelToken cancel) throws Failure {
        try {
            Sam network = network(weights);
            Rectangle area = network.part(slide.height(), slide.width(), view, prompt);
            // What the network sees at once is about as fine as this; a small image is read whole, and it reduces it itself.
            double downsample = Math.max(1, Math.max(area.width, area.height) / (2.0 * network.size()));
            Part part = Part.read(slide, area, downsample);
            SamPrompt within = prompt.in(area.x, area.y, part.scaleX(), part.scaleY());
            Image picture = Image.of(shown.apply(part.picture()));
            try (Segmentation found = network.masks(picture, List.of(within), cancel)) {
                List<SegmentedObject> objects = found.objects();
                if (objects.isEmpty()) {
                    return Optional.empty();
                }
                Outline outline = found.outlines(OutlineOptions.exact()).get(0);
                return Optional.of(part.place(new Found(outline.toShape(), objects.get(0).probability())));
            }
        } catch (CellsparseException.Cancelled error) {
            throw new Stopped("nothing was outlined");
        } catch (CellsparseException.Device error) {
            throw new Failure(error.getMessage() + ". The jar of a release has SAM", error);
        } catch (CellsparseException error) {
            throw new Failure(error.getMessage(), error);
        } catch (IOException error) {
            throw new Failure("the image '" + slide.name() + "' cannot be read: " + error.getMessage(), error);
        }
    }

    private Sam network(Path weights) throws Failure {
        if (weights == null || weights.toString().isBlank()) {
            throw new Failure("there are no weights of SAM yet; choose a file with Extensions > Cellsparse > Weights of Outline by"
                    + " click. " + SOURCES);
        }
        if (!Files.isRegularFile(weights)) {
            throw new Failure("there is no file " + weights + "; choose the weights again. " + SOURCES);
        }
        if (sam == null || !weights.equals(loaded)) {
            close();
            sam = Sam.load(weights);
            loaded = weights;
        }
        return sam;
    }

    @Override
    public synchronized void close() {
        if (sam != null) {
            sam.close();
            sam = null;
        }
    }
}
