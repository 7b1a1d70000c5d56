package qupath.lib.roi;

import java.awt.geom.Path2D;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.interfaces.ROI;

/** Makes simple regions. */
public class ROIs {
    public static ROI createPolygonROI(double[] x, double[] y, ImagePlane plane) {
        Path2D path = new Path2D.Double();
        path.moveTo(x[0], y[0]);
        for (int i = 1; i < x.length; i++) {
            path.lineTo(x[i], y[i]);
        }
        path.closePath();
        return new RoiTools.OfShape(path, plane);
    }
}
