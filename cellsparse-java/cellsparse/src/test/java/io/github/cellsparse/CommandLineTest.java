package io.github.cellsparse;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.image.BufferedImage;
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The same images, labels and seed give the same model and the same label image as the command line. */
class CommandLineTest {
    @Test
    void theResultsAreThoseOfTheCommandLine(@TempDir Path folder) throws Exception {
        // The fields of the demo, which needs one step to write them.
        run(folder, "demo", "--out", "demo", "--steps", "1", "--seed", "4");
        Path demo = folder.resolve("demo");
        for (Algorithm algorithm : Algorithm.values()) {
            String model = algorithm.id() + ".safetensors";
            run(folder, "train", "--algorithm", algorithm.id(), "--images", "demo/images/annotated_1.png", "--labels",
                    "demo/sparse/annotated_1.png", "--model", model, "--steps", "4", "--batch-size", "2", "--patch-size",
                    "64", "--seed", "9");
            run(folder, "predict", "--model", model, "--images", "demo/images/unseen_1.png", "--out", algorithm.id(),
                    "--format", "labels,geojson");
            BufferedImage annotated = ImageIO.read(demo.resolve("images/annotated_1.png").toFile());
            TrainOptions options = TrainOptions.builder().steps(4).batchSize(2).patchSize(64).seed(9).build();
            try (Model trained = Model.create(algorithm, ModelOptions.builder().seed(9).build());
                    Dataset data = new Dataset()) {
                data.add(Image.of(annotated), Labels.of(
                        values(demo.resolve("sparse/annotated_1.png")), annotated.getHeight(), annotated.getWidth(),
                        Labels.Encoding.WIRE));
                trained.train(data, options);
                Path saved = folder.resolve("java.safetensors");
                trained.save(saved);
                assertEquals(-1, Files.mismatch(folder.resolve(model), saved), algorithm + ": the weights differ");
                BufferedImage unseen = ImageIO.read(demo.resolve("images/unseen_1.png").toFile());
                try (Segmentation found = trained.predict(Image.of(unseen))) {
                    assertArrayEquals(values(folder.resolve(algorithm.id() + "/unseen_1.png")), found.labels());
                    assertEquals(Files.readString(folder.resolve(algorithm.id() + "/unseen_1.geojson")),
                            found.toGeoJson(OutlineOptions.exact()));
                }
            }
        }
    }

    private static int[] values(Path file) throws Exception {
        BufferedImage image = ImageIO.read(file.toFile());
        return image.getRaster().getSamples(0, 0, image.getWidth(), image.getHeight(), 0, (int[]) null);
    }

    private static void run(Path folder, String... arguments) throws Exception {
        String command = System.getProperty("cellsparse.command");
        assertTrue(new File(command).canExecute(), command + " is missing; build it with `make java-natives`");
        List<String> all = new ArrayList<>(List.of(command));
        all.addAll(List.of(arguments));
        Path log = folder.resolve("log");
        Process process = new ProcessBuilder(all).directory(folder.toFile()).redirectErrorStream(true)
                .redirectOutput(log.toFile()).start();
        assertEquals(0, process.waitFor(), () -> {
            try {
                return Files.readString(log);
            } catch (java.io.IOException error) {
                return error.toString();
            }
        });
    }
}
