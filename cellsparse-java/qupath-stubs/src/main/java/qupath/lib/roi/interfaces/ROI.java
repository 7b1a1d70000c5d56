package qupath.lib.roi.interfaces;

import java.awt.Shape;
import java.util.List;
import qupath.lib.geom.Point2;

/** Where an object is. */
public interface ROI {
    int getZ();

    int getT();

    boolean isArea();

    boolean isLine();

    boolean isPoint();

    List<Point2> getAllPoints();

    Shape getShape();
}
