package qupath.lib.roi;

import java.awt.Shape;
import java.awt.geom.Area;
import java.util.List;
import qupath.lib.geom.Point2;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.interfaces.ROI;

/** Makes regions of any shape. */
public class RoiTools {
    public static ROI getShapeROI(Area area, ImagePlane plane) {
        return new OfShape(area, plane);
    }

    record OfShape(Shape shape, ImagePlane plane) implements ROI {
        @Override
        public int getZ() {
            return plane.getZ();
        }

        @Override
        public int getT() {
            return plane.getT();
        }

        @Override
        public boolean isArea() {
            return true;
        }

        @Override
        public boolean isLine() {
            return false;
        }

        @Override
        public boolean isPoint() {
            return false;
        }

        @Override
        public List<Point2> getAllPoints() {
            return List.of();
        }

        @Override
        public Shape getShape() {
            return shape;
        }
    }
}
