package io.github.cellsparse.qupath.work;

import io.github.cellsparse.Polygon;
import java.awt.Shape;

/**
 * Something that a person drew, at full resolution in pixel-corner coordinates.
 *
 * @param kind what it says about its pixels
 * @param form how its shape is meant
 * @param shape an area; an open path; or, for points, a line without length for each
 */
public record Drawing(Polygon.Kind kind, Form form, Shape shape) {
    /** How a shape is meant. */
    public enum Form {
        /** Everything inside. */
        AREA,
        /** The pixels along it. */
        LINE,
        /** The pixels that hold a point. */
        POINTS
    }

    /** Whether it is one whole object. */
    public boolean isForeground() {
        return kind == Polygon.Kind.FOREGROUND;
    }
}
