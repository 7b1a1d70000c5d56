package io.github.cellsparse;

import java.util.List;
import java.util.stream.Collectors;

/** The native library itself. */
public final class Cellsparse {
    private Cellsparse() {}

    /**
     * The version of the native library, such as {@code 0.1.0}.
     *
     * @throws CellsparseException.Unavailable if the library cannot be loaded on this machine
     */
    public static String version() {
        NativeLibrary.require();
        return Native.version();
    }

    /** Whether the native library can be loaded on this machine. */
    public static boolean isAvailable() {
        try {
            NativeLibrary.require();
            return true;
        } catch (CellsparseException.Unavailable error) {
            return false;
        }
    }

    /**
     * The devices that options may name on this machine, the one that {@code auto} takes first; {@code cpu} is always among
     * them.
     */
    public static List<String> devices() {
        NativeLibrary.require();
        return Json.parseArray(Native.devices()).stream().map(String::valueOf).collect(Collectors.toUnmodifiableList());
    }

    /** Native handles that are not freed yet; for tests of leaks. */
    public static long liveHandles() {
        NativeLibrary.require();
        return Native.liveHandles();
    }
}
