package io.github.cellsparse;

/** Loads the native library, or prints why it cannot be loaded. */
public final class Loading {
    private Loading() {}

    public static void main(String[] arguments) {
        try {
            System.out.println("loaded, " + Cellsparse.liveHandles() + " handles");
        } catch (CellsparseException.Unavailable error) {
            System.out.println(error.getMessage());
        }
    }
}
