package io.github.cellsparse;

/** Watches a segmentation by parts, on the thread that called {@link Model#predictLarge}. */
@FunctionalInterface
public interface LargeListener {
    /** Called after every part; false stops the run, which then throws {@link CellsparseException.Cancelled}. */
    boolean onPart(LargeProgress progress);
}
