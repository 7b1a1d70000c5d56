/**
 * Cell segmentation networks (StarDist, Cellpose, ELEPHANT) trained from sparse labels, in the process of the caller.
 *
 * <p>A {@link io.github.cellsparse.Model} is made or loaded, trained on a {@link io.github.cellsparse.Dataset} of
 * {@link io.github.cellsparse.Image}s with {@link io.github.cellsparse.Labels}, and turns an image into a
 * {@link io.github.cellsparse.Segmentation}. Pixels without a label are unknown, not background, so only the cells that
 * one is sure of have to be drawn.
 *
 * <p>Rows come before columns ({@code height, width}); polygons are x, y pairs in pixel-corner coordinates: the pixel in
 * row r and column c covers {@code [c, c + 1] x [r, r + 1]}, as in Java 2D and in QuPath. Failures are
 * {@link io.github.cellsparse.CellsparseException}s, one subclass for each kind. No misuse harms the virtual machine: a
 * closed object, a wrong size or a listener that throws ends in an exception.
 */
package io.github.cellsparse;
