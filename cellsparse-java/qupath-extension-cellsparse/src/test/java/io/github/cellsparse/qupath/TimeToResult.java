package io.github.cellsparse.qupath;

import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.cellsparse.Algorithm;
import io.github.cellsparse.qupath.work.DrawnSlide;
import io.github.cellsparse.qupath.work.Serve;
import io.github.cellsparse.qupath.work.Watch;
import java.awt.image.DataBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
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
                Used[] here = commands(algorithm, steps, "", server);
                Used[] there = commands(algorithm, steps, server.url(), server);
                for (int i = 0; i < here.length; i++) {
                    System.out.printf(Locale.ROOT, "%s: in process %.2f s (processors %.2f s), by the protocol %.2f s (%.2f s),"
                            + " ratio %.2f (%.2f)%n", i == 0 ? "Training" : "Inference", here[i].seconds, here[i].processors,
                            there[i].seconds, there[i].processors, here[i].seconds / there[i].seconds,
                            here[i].processors / there[i].processors);
                }
            }
        }
    }

    /** A training from nothing with its objects, and an inference after it. The model is forgotten again. */
    private Used[] commands(Algorithm algorithm, int steps, String url, Serve server) throws Exception {
        Fakes.Data image = new Fakes.Data(new DrawnSlide(SIDE, SIDE, 1, DataBuffer.TYPE_BYTE).grid(44, 20)).annotate(DRAWN);
        Fakes.Images project = new Fakes.Images(folder, new ArrayList<>(List.of(image)));
        CellsparseRun run = CellsparseRun.builder(algorithm.id()).steps(steps).batchSize(8).patchSize(224).serverUrl(url).build();
        Used training = Used.by(() -> run.train(image, project, new Watch(), Receiver.of(image)), server);
        Used inference = Used.by(() -> run.predict(image, project, new Watch(), Receiver.of(image)), server);
        assertTrue(run.reset(project, new Watch()));
        System.out.printf("%s: %d objects after training, %d after inference%n",
                url.isEmpty() ? "in process" : "by the protocol", training.objects, inference.objects);
        return new Used[] {training, inference};
    }

    /**
     * What a command took: seconds on the clock, and seconds of the processors here and in the server, which other programs on
     * the machine disturb less.
     */
    private record Used(double seconds, double processors, int objects) {
        static Used by(Callable<Integer> command, Serve server) throws Exception {
            long begin = System.nanoTime();
            double before = processors(server);
            int objects = command.call();
            return new Used((System.nanoTime() - begin) / 1e9, processors(server) - before, objects);
        }

        private static double processors(Serve server) {
            return ProcessHandle.current().info().totalCpuDuration().orElse(Duration.ZERO).plus(server.processorTime())
                    .toNanos() / 1e9;
        }
    }
}
