package io.github.cellsparse;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Locale;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.tukaani.xz.LZMAInputStream;

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
                            + "; the property cellsparse.cache.path may name another folder to keep it in, where files may be run, and"
                            + " cellsparse.library.path another file",
                    error);
            throw failure;
        }
    }

    /** Operating system and processor as in the folders of the jar, such as {@code linux-x86_64} or {@code linux-x86_64-musl}. */
    static String platform() {
        String os = System.getProperty("os.name", "").toLowerCase(Locale.ROOT);
        String arch = System.getProperty("os.arch", "").toLowerCase(Locale.ROOT);
        String system = os.contains("win") ? "windows" : os.contains("mac") ? "macos" : "linux";
        String library = system.equals("linux") && isMusl() ? "-musl" : "";
        switch (arch) {
            case "amd64":
            case "x86_64":
                return system + "-x86_64" + library;
            case "arm64":
            case "aarch64":
                return system + "-aarch64" + library;
            default:
                return system + "-" + arch + library;
        }
    }

    /** Whether this process was started by the loader of musl, the C library of Alpine Linux, which cannot load what is made for glibc. */
    private static boolean isMusl() {
        try (Stream<String> mapped = Files.lines(Path.of("/proc/self/maps"), StandardCharsets.ISO_8859_1)) {
            return mapped.anyMatch(line -> line.contains("/ld-musl-"));
        } catch (IOException | UncheckedIOException error) {
            return false;
        }
    }

    private static void loadFromJar() throws IOException {
        String name = System.mapLibraryName("cellsparse_jni");
        String resource = "/native/" + platform() + "/" + name;
        String hash = hash(resource);
        Path file;
        try {
            file = extract(resource, hash, cache().resolve(hash), name);
        } catch (IOException error) {
            // A temporary folder of this process alone: in a lasting one, others could put their file in the place of ours.
            loadCopy(resource, name, error);
            return;
        }
        try {
            System.load(file.toString());
        } catch (UnsatisfiedLinkError error) {
            // Another class loader has this very file: a library belongs to one class loader, a copy is another one.
            loadCopy(resource, name, error);
        }
    }

    /** The hash of the library in the jar: as the jar states it, which spares unpacking at each start, or computed. */
    private static String hash(String resource) throws IOException {
        try (InputStream stated = NativeLibrary.class.getResourceAsStream(resource + ".hash")) {
            if (stated != null) {
                return new String(stated.readAllBytes(), StandardCharsets.US_ASCII).trim();
            }
        }
        try (InputStream stream = open(resource)) {
            return hash(stream);
        }
    }

    /** The library in the jar. It is read as a stream: as a whole it would not fit into a small heap. */
    static InputStream open(String resource) throws IOException {
        InputStream stream = NativeLibrary.class.getResourceAsStream(resource);
        if (stream == null) {
            InputStream packed = NativeLibrary.class.getResourceAsStream(resource + ".lzma");
            if (packed == null) {
                throw new IOException("the jar has no " + resource + "; take the jar for this platform or the one for all");
            }
            stream = new LZMAInputStream(packed);
        }
        try (InputStream list = NativeLibrary.class.getResourceAsStream(resource + ".parts")) {
            if (list == null) {
                return stream;
            }
            String lines = new String(list.readAllBytes(), StandardCharsets.UTF_8);
            return new Assembled(stream, lines.lines().collect(Collectors.toList()), NativeLibrary.class::getResourceAsStream);
        } catch (IOException error) {
            stream.close();
            throw error;
        }
    }

    private static void loadCopy(String resource, String name, Throwable reason) throws IOException {
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
        try (InputStream stream = open(resource)) {
            Files.copy(stream, copy);
        }
        System.load(copy.toString());
    }

    /** The file with this content, written unless it is there already. */
    private static Path extract(String resource, String hash, Path folder, String name) throws IOException {
        Path file = folder.resolve(name).toAbsolutePath();
        if (Files.isRegularFile(file)) {
            try (InputStream stream = Files.newInputStream(file)) {
                if (hash(stream).equals(hash)) {
                    return file;
                }
            }
        }
        Files.createDirectories(folder);
        Path partial = Files.createTempFile(folder, name, ".partial");
        try {
            try (InputStream stream = open(resource)) {
                Files.copy(stream, partial, StandardCopyOption.REPLACE_EXISTING);
            }
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

    /** The first half of the SHA-256 of what a stream gives. */
    private static String hash(InputStream stream) throws IOException {
        MessageDigest digest;
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException("every Java has SHA-256", error);
        }
        byte[] buffer = new byte[1 << 16];
        for (int read = stream.read(buffer); read >= 0; read = stream.read(buffer)) {
            digest.update(buffer, 0, read);
        }
        byte[] sum = digest.digest();
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < 16; i++) {
            text.append(String.format("%02x", sum[i]));
        }
        return text.toString();
    }
}
