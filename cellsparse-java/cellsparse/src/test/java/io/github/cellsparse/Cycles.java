package io.github.cellsparse;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Opens and closes 10,000 models and data sets; prints by how many megabytes the process grew. */
final class Cycles {
    private Cycles() {}

    public static void main(String[] arguments) throws IOException {
        run(2000);
        long before = residentMegabytes();
        run(10_000);
        System.out.println(residentMegabytes() - before);
    }

    private static void run(int cycles) {
        for (int i = 0; i < cycles; i++) {
            try (Model model = Model.create(Algorithm.STARDIST, Fields.TINY);
                    Dataset data = Fields.dataset()) {
                if (model.steps() != 0 || data.size() != 1) {
                    throw new IllegalStateException("a new model and a data set of one image");
                }
            }
        }
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
