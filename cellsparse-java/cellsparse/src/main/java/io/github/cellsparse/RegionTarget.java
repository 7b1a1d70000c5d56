package io.github.cellsparse;

import java.io.IOException;

/**
 * Something that takes labels block by block, row by row of blocks from the top left on; every pixel of the image is in one block.
 * It is called on the thread that called {@link Model#predictLarge}.
 */
@FunctionalInterface
public interface RegionTarget {
    /**
     * Takes a block.
     *
     * @param top first row
     * @param left first column
     * @param labels row by row: 0 background, 1 and up ids that count through the whole image
     * @throws IOException if they cannot be kept, which ends the segmentation
     */
    void write(int top, int left, int height, int width, int[] labels) throws IOException;
}
