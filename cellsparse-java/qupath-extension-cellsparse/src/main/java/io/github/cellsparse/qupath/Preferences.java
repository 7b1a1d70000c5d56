package io.github.cellsparse.qupath;

import io.github.cellsparse.Algorithm;
import io.github.cellsparse.qupath.work.Failure;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import javafx.beans.property.BooleanProperty;
import javafx.beans.property.DoubleProperty;
import javafx.beans.property.IntegerProperty;
import javafx.beans.property.StringProperty;
import qupath.lib.gui.prefs.PathPrefs;

/** What the settings dialog remembers, one set for each algorithm. */
final class Preferences {
    private static final Map<String, Preferences> ALL = new HashMap<>();

    final StringProperty model;
    final StringProperty serverUrl;
    final StringProperty channels;
    final StringProperty modelFolder;
    final DoubleProperty timeBudget;
    final IntegerProperty steps;
    final IntegerProperty batchSize;
    final IntegerProperty patchSize;
    final IntegerProperty tileSize;
    final IntegerProperty overlap;
    final IntegerProperty seed;
    final IntegerProperty threads;
    final DoubleProperty downsample;
    final DoubleProperty pixelSize;
    final DoubleProperty learningRate;
    final DoubleProperty minArea;
    final DoubleProperty simplify;
    final DoubleProperty probability;
    final DoubleProperty diameter;
    final BooleanProperty detections;
    final BooleanProperty allImages;
    final BooleanProperty segment;

    private Preferences(String prefix) {
        model = PathPrefs.createPersistentPreference(prefix + "model", "default");
        serverUrl = PathPrefs.createPersistentPreference(prefix + "serverUrl", "");
        channels = PathPrefs.createPersistentPreference(prefix + "channels", "");
        modelFolder = PathPrefs.createPersistentPreference(prefix + "modelFolder", "");
        timeBudget = PathPrefs.createPersistentPreference(prefix + "timeBudget", 60.0);
        steps = PathPrefs.createPersistentPreference(prefix + "steps", 0);
        batchSize = PathPrefs.createPersistentPreference(prefix + "batchSize", 0);
        patchSize = PathPrefs.createPersistentPreference(prefix + "patchSize", 0);
        tileSize = PathPrefs.createPersistentPreference(prefix + "tileSize", 1024);
        overlap = PathPrefs.createPersistentPreference(prefix + "overlap", 128);
        seed = PathPrefs.createPersistentPreference(prefix + "seed", 0);
        threads = PathPrefs.createPersistentPreference(prefix + "threads", 0);
        downsample = PathPrefs.createPersistentPreference(prefix + "downsample", 0.0);
        pixelSize = PathPrefs.createPersistentPreference(prefix + "pixelSize", 0.0);
        learningRate = PathPrefs.createPersistentPreference(prefix + "learningRate", 0.0);
        minArea = PathPrefs.createPersistentPreference(prefix + "minArea", 10.0);
        simplify = PathPrefs.createPersistentPreference(prefix + "simplify", 0.0);
        probability = PathPrefs.createPersistentPreference(prefix + "probability", 0.0);
        diameter = PathPrefs.createPersistentPreference(prefix + "diameter", 0.0);
        detections = PathPrefs.createPersistentPreference(prefix + "detections", true);
        allImages = PathPrefs.createPersistentPreference(prefix + "allImages", false);
        segment = PathPrefs.createPersistentPreference(prefix + "segmentAfterTraining", true);
    }

    /** The preferences of an algorithm, or of the one that is chosen for the drawn cells (null). */
    static synchronized Preferences of(Algorithm algorithm) {
        return ALL.computeIfAbsent(CellsparseRun.id(algorithm), key -> new Preferences("cellsparse." + key + "."));
    }

    /** A run with these preferences. */
    CellsparseRun.Builder builder(Algorithm algorithm) throws Failure {
        return CellsparseRun.builder(CellsparseRun.id(algorithm))
                .model(text(model))
                .serverUrl(text(serverUrl))
                .timeBudget(timeBudget.get())
                .steps(steps.get())
                .batchSize(batchSize.get())
                .patchSize(patchSize.get())
                .learningRate(learningRate.get())
                .seed(seed.get())
                .threads(threads.get())
                .downsample(downsample.get())
                .pixelSize(pixelSize.get())
                .tileSize(tileSize.get())
                .overlap(overlap.get())
                .minArea(minArea.get())
                .simplify(simplify.get())
                .probability(probability.get())
                .diameter(diameter.get())
                .channels(channels(text(channels)))
                .detections(detections.get())
                .allImages(allImages.get())
                .segment(segment.get());
    }

    /** Numbers of channels from 1, separated by commas; none for an empty text. */
    static int[] channels(String text) throws Failure {
        try {
            return Arrays.stream(text.split(",")).map(String::strip).filter(part -> !part.isEmpty())
                    .mapToInt(Integer::parseInt).toArray();
        } catch (NumberFormatException error) {
            throw new Failure("the channels are '" + text + "'; expected numbers such as 1, 3, or nothing for all", error);
        }
    }

    /** Where models are kept without a project; empty for the default. */
    String modelFolder() {
        return text(modelFolder);
    }

    private static String text(StringProperty property) {
        return property.get() == null ? "" : property.get();
    }
}
