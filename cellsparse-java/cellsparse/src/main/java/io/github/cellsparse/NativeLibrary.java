package io.github.cellsparse;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.Locale;

/**
 * Loads the native library once, on first use.
 *
 * <p>It is taken from the property {@code cellsparse.library.path} (a file), or from the jar. The latter is copied to a
 * cache whose folder is named by the content, so that versions never overwrite each other: the property
 * {@code cellsparse.cache.path}, the user's cache folder, or where that cannot be written a new
 * temporary folder.
 */
final class NativeLibrary {
    private static boolean loaded;
    private static CellsparseException.Unavailable failure;

    private NativeLibrary() {}

    /**
     * Loads the library if it is not loaded yet.
     *
     * @throws CellsparseException.Unavailable if it cannot be loaded; the same failure at every later call
     */
    static synchronized void require() {
        if (loaded) {
            return;
        }
        if (failure != null) {
            throw failure;
        }
        try {
            String override = System.getProperty("cellsparse.library.path");
            if (override != null && !override.isEmpty()) {
                System.load(Path.of(override).toAbsolutePath().toString());
            } else {
                loadFromJar();
            }
            int version = Native.abiVersion();
            if (version != Native.ABI_VERSION) {
                throw new IllegalStateException("the native library has the binary interface " + version
                        + ", the classes need " + Native.ABI_VERSION);
            }
            loaded = true;
        } catch (IOException | RuntimeException | LinkageError error) {
            failure = new CellsparseException.Unavailable(
                    "the native library of cellsparse cannot be loaded on " + platform() + ": " + error.getMessage()
                            + "; the property cellsparse.library.path may name another file",
                    error);
            throw failure;
        }
    }

    /** Operating system and processor as in the folders of the jar, such as {@code linux-x86_64}. */
    static String platform() {
        String os = System.getProperty("os.name", "").toLowerCase(Locale.ROOT);
        String arch = System.getProperty("os.arch", "").toLowerCase(Locale.ROOT);
        String system = os.contains("win") ? "windows" : os.contains("mac") ? "macos" : "linux";
        switch (arch) {
            case "amd64":
            case "x86_64":
                return system + "-x86_64";
            case "arm64":
            case "aarch64":
                return system + "-aarch64";
            default:
                return system + "-" + arch;
        }
    }

    private static void loadFromJar() throws IOException {
        String name = System.mapLibraryName("cellsparse_jni");
        String resource = "/native/" + platform() + "/" + name;
        byte[] content;
        try (InputStream stream = NativeLibrary.class.getResourceAsStream(resource)) {
            if (stream == null) {
                throw new IOException("the jar has no " + resource);
            }
            content = stream.readAllBytes();
        }
        Path file;
        try {
            file = extract(content, cache().resolve(hash(content)), name);
        } catch (IOException error) {
            // A temporary folder of this process alone: in a lasting one, others could put their file in the place of ours.
            loadCopy(content, name, error);
            return;
        }
        try {
            System.load(file.toString());
        } catch (UnsatisfiedLinkError error) {
            // Another class loader has this very file: a library belongs to one class loader, a copy is another one.
            loadCopy(content, name, error);
        }
    }

    private static void loadCopy(byte[] content, String name, Throwable reason) throws IOException {
        Path folder;
        try {
            folder = Files.createTempDirectory("cellsparse");
        } catch (IOException error) {
            error.addSuppressed(reason);
            throw error;
        }
        Path copy = folder.resolve(name);
        // Deleted in the reverse order; where a loaded file cannot be deleted it stays.
        folder.toFile().deleteOnExit();
        copy.toFile().deleteOnExit();
        Files.write(copy, content);
        System.load(copy.toString());
    }

    /** The file with this content, written unless it is there already. */
    private static Path extract(byte[] content, Path folder, String name) throws IOException {
        Path file = folder.resolve(name).toAbsolutePath();
        if (Files.isRegularFile(file) && Files.size(file) == content.length
                && Arrays.equals(Files.readAllBytes(file), content)) {
            return file;
        }
        Files.createDirectories(folder);
        Path partial = Files.createTempFile(folder, name, ".partial");
        try {
            Files.write(partial, content);
            try {
                Files.move(partial, file, StandardCopyOption.ATOMIC_MOVE);
            } catch (AtomicMoveNotSupportedException error) {
                Files.move(partial, file, StandardCopyOption.REPLACE_EXISTING);
            }
        } finally {
            Files.deleteIfExists(partial);
        }
        return file;
    }

    private static Path cache() {
        String given = System.getProperty("cellsparse.cache.path");
        if (given != null && !given.isEmpty()) {
            return Path.of(given);
        }
        String home = System.getProperty("user.home", "");
        String system = platform();
        String base = system.startsWith("windows")
                ? System.getenv("LOCALAPPDATA")
                : system.startsWith("macos") ? home + "/Library/Caches" : System.getenv("XDG_CACHE_HOME");
        return Path.of(base == null || base.isEmpty() ? home + "/.cache" : base, "cellsparse", "native");
    }

    private static String hash(byte[] content) {
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(content);
            StringBuilder text = new StringBuilder();
            for (int i = 0; i < 16; i++) {
                text.append(String.format("%02x", digest[i]));
            }
            return text.toString();
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException("every Java has SHA-256", error);
        }
    }
}
