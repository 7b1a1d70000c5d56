package io.github.cellsparse.qupath.work;

import io.github.cellsparse.CellsparseException;
import io.github.cellsparse.LargeOptions;
import io.github.cellsparse.LargeSegmentation;
import io.github.cellsparse.Model;
import io.github.cellsparse.OutlineOptions;
import io.github.cellsparse.PredictOptions;
import java.awt.Rectangle;
import java.awt.Shape;
import java.awt.geom.AffineTransform;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Segments areas of a slide that are larger than a tile: the library reads part by part, and no seam cuts or doubles an object. */
final class LargeInference {
    private final Model model;
    private final SlideSource source;
    private final Settings settings;
    private final Monitor monitor;
    private String phase = "";

    LargeInference(Model model, SlideSource source, Settings settings, Monitor monitor) {
        this.model = model;
        this.source = source;
        this.settings = settings;
        this.monitor = monitor;
    }

    /**
     * The objects of some areas, at full resolution. An object belongs to the areas that hold the centre of its bounding box.
     *
     * @param areas what to segment; none means the whole slide
     */
    List<Found> run(Slide slide, List<Shape> areas, PredictOptions options) throws IOException, Failure {
        monitor.message("Segmenting " + slide.name());
        double scaleX = slide.width() / (double) source.width();
        double scaleY = slide.height() / (double) source.height();
        if (areas.isEmpty()) {
            return segment(null, options).stream().map(one -> one.moved(scaleX, scaleY, 0, 0)).toList();
        }
        List<Found> all = new ArrayList<>();
        for (int i = 0; i < areas.size(); i++) {
            List<Shape> before = areas.subList(0, i);
            // Objects just outside of the box may have their centres inside.
            Rectangle box = AffineTransform.getScaleInstance(1 / scaleX, 1 / scaleY)
                    .createTransformedShape(areas.get(i)).getBounds();
            int tolerance = (int) Math.ceil(Seams.TOLERANCE);
            box.grow(tolerance, tolerance);
            box = box.intersection(new Rectangle(source.width(), source.height()));
            for (Found local : segment(box, options)) {
                Found found = local.moved(scaleX, scaleY, 0, 0);
                double[] center = found.center();
                if (areas.get(i).contains(center[0], center[1])
                        && before.stream().noneMatch(area -> area.contains(center[0], center[1]))) {
                    all.add(found);
                }
            }
        }
        return all;
    }

    /** The objects of a box, or of everything without one, in pixels of the source. */
    private List<Found> segment(Rectangle box, PredictOptions options) throws IOException, Failure {
        OutlineOptions exact = OutlineOptions.exact();
        Path file = Files.createTempFile("cellsparse", ".geojson");
        try {
            LargeOptions.Builder large = LargeOptions.builder()
                    .predict(options)
                    .output(file)
                    .outlines(settings.simplify > 0 ? exact.simplified(settings.simplify) : exact)
                    .listener(progress -> {
                        if (!phase.equals(progress.phase())) {
                            phase = progress.phase();
                            monitor.tiles(0, (int) progress.total());
                        }
                        monitor.tiles((int) progress.done(), (int) progress.total());
                        return !monitor.token().isCancelled();
                    });
            if (box != null) {
                large.region(box.x + "," + box.y + "," + box.width + "," + box.height);
            }
            LargeSegmentation found = model.predictLarge(source, large.build());
            found.notes().forEach(monitor::warn);
            return Answers.features(Files.readString(file));
        } catch (CellsparseException.Cancelled error) {
            throw new Stopped();
        } catch (UncheckedIOException error) {
            if (error.getCause().getCause() instanceof Failure) {
                throw (Failure) error.getCause().getCause();
            }
            throw error.getCause();
        } finally {
            Files.deleteIfExists(file);
        }
    }
}
