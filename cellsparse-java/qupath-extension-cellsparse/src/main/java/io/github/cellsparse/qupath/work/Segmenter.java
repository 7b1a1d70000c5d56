package io.github.cellsparse.qupath.work;

import java.io.IOException;
import java.util.List;

/** Finds the objects of one part of a slide. */
interface Segmenter extends AutoCloseable {
    /** The objects of a part, in pixels of its picture. */
    List<Found> segment(Part part) throws IOException, Failure;

    @Override
    default void close() {}
}
