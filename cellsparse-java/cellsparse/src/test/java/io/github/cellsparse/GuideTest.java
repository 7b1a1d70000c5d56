package io.github.cellsparse;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The program of {@code docs/java.md} runs. */
class GuideTest {
    @Test
    void theProgramOfTheGuideRuns(@TempDir Path folder) throws Exception {
        String guide = Files.readString(Path.of("../../docs/java.md"));
        String program = guide.split("```java\n")[1].split("```")[0];
        Path source = Files.writeString(folder.resolve("First.java"), program);
        Process process = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "-Dcellsparse.cache.path=" + System.getProperty("cellsparse.cache.path"), "-cp",
                        System.getProperty("java.class.path"), source.toString())
                .redirectError(folder.resolve("err").toFile())
                .start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, process.waitFor(), () -> output);
        assertTrue(output.contains("object 1, probability") && output.contains("\"Polygon\""), output);
    }
}
