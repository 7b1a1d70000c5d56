package io.github.cellsparse.qupath;

import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.cellsparse.Algorithm;
import io.github.cellsparse.qupath.work.DrawnSlide;
import io.github.cellsparse.qupath.work.Serve;
import io.github.cellsparse.qupath.work.Watch;
import java.awt.image.DataBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Seconds from a menu command to its objects, in process and by the protocol of the original extension: what the commands
 * Training and Inference run, with the settings that the original extension sends. Started by {@code make bench-qupath} and
 * by its name alone, which no test run looks for.
 */
class TimeToResult {
    /** Side of the image. */
    private static final int SIDE = 512;
    /** Discs that are drawn as cells, each with background around it. */
    private static final int DRAWN = 6;

    @TempDir
    Path folder;

    @Test
    void inProcessAndByTheProtocol() throws Exception {
        Algorithm algorithm = Algorithm.of(System.getProperty("bench.algorithm", "stardist"));
        int steps = Integer.getInteger("bench.steps", 200);
        int rounds = Integer.getInteger("bench.rounds", 1);
        System.out.printf("%s, %d steps, image of %d x %d pixels, %d cells drawn%n", algorithm.id(), steps, SIDE, SIDE, DRAWN);
        try (Serve server = new Serve(folder)) {
            for (int round = 0; round < rounds; round++) {
                double[] here = times(algorithm, steps, "");
                double[] there = times(algorithm, steps, server.url());
                for (int i = 0; i < 2; i++) {
                    System.out.printf(Locale.ROOT, "%s: in process %.2f s, by the protocol %.2f s, ratio %.2f%n",
                            i == 0 ? "Training" : "Inference", here[i], there[i], here[i] / there[i]);
                }
            }
        }
    }

    /** Seconds of a training from nothing with its objects, and of an inference after it. The model is forgotten again. */
    private double[] times(Algorithm algorithm, int steps, String url) throws Exception {
        Fakes.Data image = new Fakes.Data(new DrawnSlide(SIDE, SIDE, 1, DataBuffer.TYPE_BYTE).grid(44, 20)).annotate(DRAWN);
        Fakes.Images project = new Fakes.Images(folder, new ArrayList<>(List.of(image)));
        CellsparseRun run = CellsparseRun.builder(algorithm.id()).steps(steps).serverUrl(url).build();
        long begin = System.nanoTime();
        int trained = run.train(image, project, new Watch(), Runnable::run);
        double training = (System.nanoTime() - begin) / 1e9;
        begin = System.nanoTime();
        int found = run.predict(image, project, new Watch(), Runnable::run);
        double inference = (System.nanoTime() - begin) / 1e9;
        assertTrue(run.reset(project, new Watch()));
        System.out.printf("%s: %d objects after training, %d after inference%n", url.isEmpty() ? "in process" : "by the protocol",
                trained, found);
        return new double[] {training, inference};
    }
}
