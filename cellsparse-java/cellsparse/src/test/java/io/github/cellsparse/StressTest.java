package io.github.cellsparse;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
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
import org.junit.jupiter.api.io.TempDir;
import org.tukaani.xz.LZMAInputStream;

/** Many cycles, many threads, many class loaders. */
class StressTest {
    /** In a virtual machine whose own memory is taken from the beginning, so that growth is that of native code. */
    @Test
    void tenThousandCyclesKeepMemoryBounded() throws Exception {
        List<String> lines = java("io.github.cellsparse.Cycles", "-Xms64m", "-Xmx64m", "-XX:+AlwaysPreTouch");
        long grown = Long.parseLong(lines.get(lines.size() - 1));
        assertTrue(grown < 16, "grown by " + grown + " MB");
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
        // In the jar its classes lie beside ours.
        URL xz = LZMAInputStream.class.getProtectionDomain().getCodeSource().getLocation();
        for (int i = 0; i < 2; i++) {
            try (URLClassLoader loader = new URLClassLoader(new URL[] {classes, xz}, ClassLoader.getPlatformClassLoader())) {
                Class<?> other = loader.loadClass("io.github.cellsparse.Cellsparse");
                assertFalse(other == Cellsparse.class);
                assertEquals(Cellsparse.version(), other.getMethod("version").invoke(null));
            }
        }
    }

    /** Runs {@link Workout} in a virtual machine of its own that checks every call of native code. */
    @Test
    void theVirtualMachineFindsNothingToSay() throws Exception {
        List<String> lines = java("io.github.cellsparse.Workout", "-Xcheck:jni");
        String output = String.join("\n", lines);
        assertEquals("done", lines.get(lines.size() - 1), output);
        assertFalse(output.contains("WARNING") || output.contains("FATAL"), output);
    }

    @Test
    void theLibraryIsLoadedFromFoldersOfEveryNameOrTheMessageNamesTheOption(@TempDir Path folder) throws Exception {
        Path cyrillic = Files.createDirectories(folder.resolve("Кэш und Platz"));
        String temporary = "-Djava.io.tmpdir=" + cyrillic;
        for (Path cache : List.of(cyrillic.resolve("cache"), Files.writeString(folder.resolve("a file"), "x"))) {
            List<String> lines = java("io.github.cellsparse.Loading", temporary, "-Dcellsparse.cache.path=" + cache);
            assertEquals(List.of("loaded, 0 handles"), lines, cache.toString());
        }
        String output = String.join("\n", java("io.github.cellsparse.Loading", "-Djava.io.tmpdir=" + folder.resolve("none"),
                "-Dcellsparse.cache.path=" + folder.resolve("a file")));
        assertTrue(output.contains("cannot be loaded") && output.contains("cellsparse.cache.path"), output);
    }

    /** Runs a program of these tests in a virtual machine of its own; what it printed. */
    private static List<String> java(String program, String... options) throws Exception {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.add("-Dcellsparse.cache.path=" + System.getProperty("cellsparse.cache.path"));
        command.addAll(List.of(options));
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), program));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        // Names of files that are not ASCII need a locale that has them.
        builder.environment().put("LC_ALL", "C.UTF-8");
        Process process = builder.start();
        List<String> lines;
        try (BufferedReader reader = new BufferedReader(new InputStreamReader(process.getInputStream()))) {
            lines = reader.lines().collect(Collectors.toList());
        }
        assertEquals(0, process.waitFor(), String.join("\n", lines));
        return lines;
    }
}
