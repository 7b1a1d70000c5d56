package qupath.lib.objects;

import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.interfaces.ROI;

/** Makes objects. */
public class PathObjects {
    public static PathObject createDetectionObject(ROI roi, PathClass pathClass) {
        return new Plain(roi, pathClass, false);
    }

    public static PathObject createAnnotationObject(ROI roi, PathClass pathClass) {
        return new Plain(roi, pathClass, true);
    }

    private static final class Plain extends PathObject {
        private final ROI roi;
        private final PathClass pathClass;
        private final boolean annotation;

        Plain(ROI roi, PathClass pathClass, boolean annotation) {
            this.roi = roi;
            this.pathClass = pathClass;
            this.annotation = annotation;
        }

        @Override
        public PathClass getPathClass() {
            return pathClass;
        }

        @Override
        public ROI getROI() {
            return roi;
        }

        @Override
        public boolean isAnnotation() {
            return annotation;
        }

        @Override
        public boolean isDetection() {
            return !annotation;
        }
    }
}
