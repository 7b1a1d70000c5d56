package io.github.cellsparse.qupath.work;

import java.io.IOException;
import java.util.List;

/** An annotated image to train on, opened when its turn comes. */
public interface Subject {
    /** What messages call the image. */
    String name();

    /** What is drawn in it. */
    List<Drawing> drawings();

    /**
     * The image. The caller closes it.
     *
     * @throws IOException if it cannot be opened
     */
    Slide open() throws IOException;
}
