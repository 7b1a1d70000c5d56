package io.github.cellsparse.qupath.work;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.TimeUnit;

/** A running {@code cellsparse serve} of the property {@code cellsparse.command}, on a free port. */
public final class Serve implements AutoCloseable {
    private final Process process;
    private final String url;

    /** Starts a server that keeps its models in {@code folder/models}, and waits until it listens. */
    public Serve(Path folder) throws Exception {
        File command = new File(System.getProperty("cellsparse.command"));
        assertTrue(command.canExecute(), command + " is missing; build it with cargo");
        Path log = folder.resolve("log");
        process = new ProcessBuilder(command.toString(), "serve", "--port", "0", "--model-dir",
                folder.resolve("models").toString()).redirectErrorStream(true).redirectOutput(log.toFile()).start();
        try {
            url = address(log);
        } catch (Exception | AssertionError error) {
            process.destroy();
            throw error;
        }
    }

    private String address(Path log) throws Exception {
        for (int i = 0; i < 200; i++) {
            Thread.sleep(50);
            var line = Files.readString(log).lines().filter(one -> one.contains("listening on http")).findFirst();
            if (line.isPresent()) {
                return line.get().substring(line.get().indexOf("http")).strip();
            }
            assertTrue(process.isAlive(), Files.readString(log));
        }
        throw new AssertionError("the server does not listen after 10 s: " + Files.readString(log));
    }

    /** Where it listens. */
    public String url() {
        return url;
    }

    /** Processor time that it took so far. */
    public Duration processorTime() {
        return process.info().totalCpuDuration().orElse(Duration.ZERO);
    }

    @Override
    public void close() {
        process.destroy();
        try {
            assertTrue(process.waitFor(30, TimeUnit.SECONDS), "the server does not end");
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }
}
