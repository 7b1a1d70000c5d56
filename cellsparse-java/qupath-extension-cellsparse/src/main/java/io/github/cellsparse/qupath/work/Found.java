package io.github.cellsparse.qupath.work;

import java.awt.geom.AffineTransform;
import java.awt.geom.Path2D;
import java.awt.geom.Rectangle2D;

/**
 * A segmented object.
 *
 * @param shape its outline with holes and parts, by the even-odd rule
 * @param probability confidence between 0 and 1, or NaN when a server does not tell
 */
public record Found(Path2D shape, double probability) {
    /** The middle of its bounding box, which decides where it belongs. */
    public double[] center() {
        Rectangle2D bounds = shape.getBounds2D();
        return new double[] {bounds.getCenterX(), bounds.getCenterY()};
    }

    /** The same object in other coordinates. */
    Found moved(double scaleX, double scaleY, double x, double y) {
        AffineTransform transform = new AffineTransform(scaleX, 0, 0, scaleY, x, y);
        return new Found(new Path2D.Double(shape, transform), probability);
    }
}
