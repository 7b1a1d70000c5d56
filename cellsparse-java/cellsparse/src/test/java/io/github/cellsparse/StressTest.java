package io.github.cellsparse;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** Many cycles, many threads, many class loaders. */
class StressTest {
    @Test
    void tenThousandCyclesKeepMemoryBounded() throws IOException {
        Runnable cycle = () -> {
            try (Model model = Model.create(Algorithm.STARDIST, Fields.TINY);
                    Dataset data = Fields.dataset()) {
                assertEquals(0, model.steps() + data.size() - 1);
            }
        };
        for (int i = 0; i < 1000; i++) {
            cycle.run();
        }
        long before = residentMegabytes();
        for (int i = 0; i < 10_000; i++) {
            cycle.run();
        }
        long grown = residentMegabytes() - before;
        assertTrue(grown < 64, "grown by " + grown + " MB");
    }

    @Test
    void forgottenObjectsAreFreedWithTheirOwners() throws InterruptedException {
        System.gc();
        for (int i = 0; i < 200; i++) {
            Model.create(Algorithm.STARDIST, Fields.TINY);
        }
        for (int i = 0; i < 100 && Cellsparse.liveHandles() > 20; i++) {
            System.gc();
            Thread.sleep(20);
        }
        assertTrue(Cellsparse.liveHandles() <= 20, Cellsparse.liveHandles() + " handles are left");
    }

    @Test
    void closingDuringPredictionIsSafe() throws InterruptedException {
        for (int round = 0; round < 10; round++) {
            Model model = Fields.trained();
            AtomicReference<Throwable> unexpected = new AtomicReference<>();
            CountDownLatch working = new CountDownLatch(3);
            List<Thread> threads = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                Thread thread = new Thread(() -> {
                    try {
                        for (int n = 0; n < 1000; n++) {
                            model.predict(Fields.image(), PredictOptions.builder().threads(1).build()).close();
                            working.countDown();
                        }
                    } catch (CellsparseException.Cancelled | IllegalStateException expected) {
                        working.countDown();
                    } catch (Throwable error) {
                        unexpected.set(error);
                        working.countDown();
                    }
                });
                threads.add(thread);
                thread.start();
            }
            working.await();
            model.close();
            for (Thread thread : threads) {
                thread.join(30_000);
                assertFalse(thread.isAlive());
            }
            assertEquals(null, unexpected.get());
        }
    }

    @Test
    void closingDuringTrainingStopsIt() {
        Model model = Model.create(Algorithm.STARDIST, Fields.TINY);
        try (Dataset data = Fields.dataset()) {
            TrainingSummary summary = model.train(data, Fields.shortTraining().steps(100_000).build(), event -> {
                model.close();
                return true;
            });
            assertEquals(TrainingSummary.StopReason.CANCELLED, summary.stopped());
            assertEquals(1, summary.steps());
        }
    }

    @Test
    void twoClassLoadersHaveTheirOwnLibrary() throws Exception {
        assertTrue(Cellsparse.isAvailable());
        URL classes = Cellsparse.class.getProtectionDomain().getCodeSource().getLocation();
        for (int i = 0; i < 2; i++) {
            try (URLClassLoader loader = new URLClassLoader(new URL[] {classes}, ClassLoader.getPlatformClassLoader())) {
                Class<?> other = loader.loadClass("io.github.cellsparse.Cellsparse");
                assertFalse(other == Cellsparse.class);
                assertEquals(Cellsparse.version(), other.getMethod("version").invoke(null));
            }
        }
    }

    /** Runs {@link Workout} in a virtual machine of its own that checks every call of native code. */
    @Test
    void theVirtualMachineFindsNothingToSay() throws Exception {
        String java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
        Process process = new ProcessBuilder(java, "-Xcheck:jni", "-Dcellsparse.cache.path="
                        + System.getProperty("cellsparse.cache.path"), "-cp", System.getProperty("java.class.path"),
                        "io.github.cellsparse.Workout")
                .redirectErrorStream(true)
                .start();
        List<String> lines;
        try (BufferedReader reader = new BufferedReader(new InputStreamReader(process.getInputStream()))) {
            lines = reader.lines().collect(Collectors.toList());
        }
        String output = String.join("\n", lines);
        assertEquals(0, process.waitFor(), output);
        assertEquals("done", lines.get(lines.size() - 1), output);
        assertFalse(output.contains("WARNING") || output.contains("FATAL"), output);
    }

    private static long residentMegabytes() throws IOException {
        Path status = Path.of("/proc/self/status");
        if (!Files.exists(status)) {
            return 0;
        }
        String line = Files.readAllLines(status).stream().filter(text -> text.startsWith("VmRSS")).findFirst().orElse("0");
        return Long.parseLong(line.replaceAll("\\D", "")) / 1024;
    }
}
