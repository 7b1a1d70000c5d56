package io.github.cellsparse.qupath.work;

import io.github.cellsparse.Algorithm;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** Models by algorithm and name: {@code FOLDER/stardist/NAME.safetensors}. */
public final class ModelStore {
    private static final String ENDING = ".safetensors";
    private static final Set<String> DEVICES = Set.of("con", "prn", "aux", "nul");

    private final Path folder;

    /** The models below a folder, which need not exist yet. */
    public ModelStore(Path folder) {
        this.folder = folder;
    }

    /** The models of a project. */
    public static ModelStore ofProject(Path projectFolder) {
        return new ModelStore(projectFolder.resolve("models").resolve("cellsparse"));
    }

    /** The file of a model, whether it exists or not. */
    public Path file(Algorithm algorithm, String name) throws Failure {
        checkName(name);
        return folder.resolve(algorithm.id()).resolve(name + ENDING);
    }

    /** The file of a model that is about to be written. */
    Path writable(Algorithm algorithm, String name) throws Failure {
        Path file = file(algorithm, name);
        try {
            Files.createDirectories(file.getParent());
        } catch (IOException error) {
            throw new Failure("the folder " + file.getParent() + " cannot be made (" + error.getMessage()
                    + "); check the rights of the project's folder", error);
        }
        return file;
    }

    /** Whether there is such a model. */
    public boolean exists(Algorithm algorithm, String name) throws Failure {
        return Files.isRegularFile(file(algorithm, name));
    }

    /** The names of the models of an algorithm, sorted. */
    public List<String> names(Algorithm algorithm) {
        try (Stream<Path> files = Files.list(folder.resolve(algorithm.id()))) {
            return files.map(file -> file.getFileName().toString())
                    .filter(name -> name.endsWith(ENDING))
                    .map(name -> name.substring(0, name.length() - ENDING.length()))
                    .sorted()
                    .collect(Collectors.toList());
        } catch (IOException error) {
            return List.of();
        }
    }

    /**
     * Forgets a model.
     *
     * @return whether there was one
     */
    public boolean reset(Algorithm algorithm, String name) throws Failure {
        Path file = file(algorithm, name);
        try {
            return Files.deleteIfExists(file);
        } catch (IOException error) {
            throw new Failure("the model " + file + " cannot be deleted: " + error.getMessage(), error);
        }
    }

    /** Refuses what is not the name of one file on every system. */
    static void checkName(String name) throws Failure {
        String reason = null;
        if (name.isEmpty() || name.getBytes(StandardCharsets.UTF_8).length > 100) {
            reason = "it has " + name.getBytes(StandardCharsets.UTF_8).length + " bytes; expected 1 to 100";
        } else if (name.chars().anyMatch(c -> c < 32 || c == 127 || "/\\:*?\"<>|".indexOf(c) >= 0)) {
            reason = "none of / \\ : * ? \" < > | and no control character is allowed";
        } else if (name.contains("..") || ". -".indexOf(name.charAt(0)) >= 0 || name.endsWith(".") || name.endsWith(" ")) {
            reason = "it must not contain .., begin with a dot, a space or a minus, or end with a dot or a space";
        } else {
            String stem = name.split("\\.", 2)[0].toLowerCase(Locale.ROOT);
            if (DEVICES.contains(stem) || stem.matches("(com|lpt)[0-9]")) {
                reason = "Windows keeps it for a device";
            }
        }
        if (reason != null) {
            throw new Failure("'" + name + "' cannot be the name of a model: " + reason + "; take letters and digits");
        }
    }
}
