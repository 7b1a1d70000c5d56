package io.github.cellsparse;

import java.util.OptionalInt;

/**
 * One segmented object.
 *
 * @param id its value in the label image
 * @param probability confidence, 0 to 1
 * @param objectClass class with the highest score (0 background, 1 and up a class), when the model has classes
 * @param polygon {@code x, y, x, y, ...}, not closed, in pixel-corner coordinates. StarDist: the star-convex polygon, which
 *     may reach over the image border and below neighbours; Cellpose and ELEPHANT: the outline of the largest part. The
 *     exact pixels are available from {@link Segmentation#outlines}.
 */
public record SegmentedObject(int id, float probability, OptionalInt objectClass, double[] polygon) {}
