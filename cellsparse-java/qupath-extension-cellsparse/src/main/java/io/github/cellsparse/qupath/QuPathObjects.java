package io.github.cellsparse.qupath;

import io.github.cellsparse.Polygon;
import io.github.cellsparse.qupath.work.Drawing;
import io.github.cellsparse.qupath.work.Found;
import java.awt.Shape;
import java.awt.geom.Area;
import java.awt.geom.Path2D;
import java.awt.geom.PathIterator;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.stream.Stream;
import qupath.lib.geom.Point2;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.PathObjects;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.ROIs;
import qupath.lib.roi.RoiTools;
import qupath.lib.roi.interfaces.ROI;

/** Annotations into drawings, and found objects into those of QuPath. */
final class QuPathObjects {
    /** The measurement that every result has, and nothing that a person draws. */
    static final String PROBABILITY = "Cellsparse probability";
    /** The class of results; one that was given another class belongs to the user. */
    static final String RESULT = "Cellsparse";

    private QuPathObjects() {}

    /** Annotations of one plane whose class is exactly {@code Foreground} or {@code Background}. */
    static List<Drawing> drawings(PathObjectHierarchy hierarchy, int z, int t) {
        List<Drawing> drawings = new ArrayList<>();
        for (PathObject object : hierarchy.getAnnotationObjects()) {
            ROI roi = object.getROI();
            Polygon.Kind kind = kind(object);
            if (kind != null && isIn(roi, z, t)) {
                Drawing.Form form =
                        roi.isPoint() ? Drawing.Form.POINTS : roi.isArea() ? Drawing.Form.AREA : Drawing.Form.LINE;
                drawings.add(new Drawing(kind, form, form == Drawing.Form.POINTS ? points(roi) : roi.getShape()));
            }
        }
        return drawings;
    }

    /** The shapes of the selected annotations that are regions: neither labels nor results. */
    static List<Shape> selectedRegions(PathObjectHierarchy hierarchy, int z, int t) {
        List<Shape> regions = new ArrayList<>();
        for (PathObject object : hierarchy.getSelectionModel().getSelectedObjects()) {
            if (object.isAnnotation() && kind(object) == null && !isOurs(object) && isIn(object.getROI(), z, t)
                    && object.getROI().isArea()) {
                regions.add(object.getROI().getShape());
            }
        }
        return regions;
    }

    /**
     * Replaces our earlier results in some areas (none means everywhere) of one plane by new ones. What a person drew, or
     * gave another class, stays.
     */
    static void replace(
            PathObjectHierarchy hierarchy, List<Found> found, List<Shape> areas, boolean detections, int z, int t) {
        List<PathObject> old = Stream.of(hierarchy.getDetectionObjects(), hierarchy.getAnnotationObjects())
                .flatMap(Collection::stream)
                .filter(object -> isOurs(object) && isIn(object.getROI(), z, t) && isInside(object.getROI(), areas))
                .toList();
        ImagePlane plane = ImagePlane.getPlane(z, t);
        PathClass result = PathClass.fromString(RESULT);
        List<PathObject> added = new ArrayList<>(found.size());
        for (Found one : found) {
            ROI roi = roi(one.shape(), plane);
            PathObject object = detections
                    ? PathObjects.createDetectionObject(roi, result)
                    : PathObjects.createAnnotationObject(roi, result);
            // Locked, so that a click beside the intended object does not move it.
            object.setLocked(true);
            try (var measurements = object.getMeasurementList()) {
                measurements.put(PROBABILITY, one.probability());
            }
            added.add(object);
        }
        if (!old.isEmpty()) {
            hierarchy.removeObjects(old, true);
        }
        if (!added.isEmpty()) {
            hierarchy.addObjects(added);
        }
    }

    /** A found object as an annotation that a person may go on editing. */
    static PathObject annotation(Found found, PathClass pathClass, int z, int t) {
        return PathObjects.createAnnotationObject(roi(found.shape(), ImagePlane.getPlane(z, t)), pathClass);
    }

    /** What an annotation says by its class; null for one that says nothing. */
    static Polygon.Kind kind(PathObject object) {
        PathClass pathClass = object.getPathClass();
        if (pathClass == PathClass.fromString("Foreground")) {
            return Polygon.Kind.FOREGROUND;
        }
        return pathClass == PathClass.fromString("Background") ? Polygon.Kind.BACKGROUND : null;
    }

    private static boolean isOurs(PathObject object) {
        return object.getPathClass() == PathClass.fromString(RESULT) && object.getMeasurementList().containsKey(PROBABILITY);
    }

    private static boolean isIn(ROI roi, int z, int t) {
        return roi != null && roi.getZ() == z && roi.getT() == t;
    }

    private static boolean isInside(ROI roi, List<Shape> areas) {
        var bounds = roi.getShape().getBounds2D();
        return areas.isEmpty() || areas.stream().anyMatch(area -> area.contains(bounds.getCenterX(), bounds.getCenterY()));
    }

    private static Path2D points(ROI roi) {
        Path2D path = new Path2D.Double();
        for (Point2 point : roi.getAllPoints()) {
            path.moveTo(point.getX(), point.getY());
            // Of two moves in a row a path keeps the second alone.
            path.lineTo(point.getX(), point.getY());
        }
        return path;
    }

    private static ROI roi(Path2D shape, ImagePlane plane) {
        List<double[]> vertices = new ArrayList<>();
        int rings = 0;
        double[] point = new double[6];
        for (PathIterator path = shape.getPathIterator(null); !path.isDone(); path.next()) {
            int segment = path.currentSegment(point);
            rings += segment == PathIterator.SEG_MOVETO ? 1 : 0;
            if (segment != PathIterator.SEG_CLOSE) {
                vertices.add(new double[] {point[0], point[1]});
            }
        }
        if (rings != 1) {
            return RoiTools.getShapeROI(new Area(shape), plane);
        }
        return ROIs.createPolygonROI(
                vertices.stream().mapToDouble(vertex -> vertex[0]).toArray(),
                vertices.stream().mapToDouble(vertex -> vertex[1]).toArray(), plane);
    }
}
