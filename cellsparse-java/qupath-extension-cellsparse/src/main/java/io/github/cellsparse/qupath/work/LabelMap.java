package io.github.cellsparse.qupath.work;

import io.github.cellsparse.Labels;
import io.github.cellsparse.Polygon;
import java.awt.BasicStroke;
import java.awt.Rectangle;
import java.awt.Shape;
import java.awt.geom.AffineTransform;
import java.awt.geom.Area;
import java.awt.geom.PathIterator;
import java.util.ArrayList;
import java.util.List;

/**
 * What is drawn in one part of a slide, as labels: below 0 unlabelled, 0 background, 1 and up objects. Foreground wins over
 * background. An object that reaches out of the part is unlabelled there: its cut side would be learned as an outline.
 *
 * @param values row by row
 * @param objects objects with at least one pixel
 */
record LabelMap(int[] values, int height, int width, int objects) {
    static LabelMap draw(List<Drawing> drawings, Part part) throws Failure {
        int width = part.picture().getWidth();
        int height = part.picture().getHeight();
        AffineTransform toPart = AffineTransform.getScaleInstance(1 / part.scaleX(), 1 / part.scaleY());
        toPart.translate(-part.area().x, -part.area().y);
        List<Polygon> polygons = new ArrayList<>();
        List<Boolean> whole = new ArrayList<>();
        for (Drawing drawing : drawings) {
            Rectangle bounds = Crops.bounds(drawing);
            if (!bounds.intersects(part.area())) {
                continue;
            }
            int before = polygons.size();
            add(drawing, toPart, polygons);
            if (drawing.isForeground() && polygons.size() > before) {
                // What the border of the slide cuts off is not there for anybody.
                whole.add(part.area().contains(bounds.intersection(part.slideBounds())));
            }
        }
        int[] values = Labels.draw(polygons, height, width);
        boolean[] seen = new boolean[whole.size()];
        int objects = 0;
        for (int i = 0; i < values.length; i++) {
            int id = values[i];
            if (id > 0 && !whole.get(id - 1)) {
                values[i] = -1;
            } else if (id > 0 && !seen[id - 1]) {
                seen[id - 1] = true;
                objects++;
            }
        }
        return new LabelMap(values, height, width, objects);
    }

    Labels labels() {
        return Labels.of(values, height, width);
    }

    private static void add(Drawing drawing, AffineTransform toPart, List<Polygon> polygons) throws Failure {
        if (drawing.form() == Drawing.Form.AREA) {
            addArea(drawing.kind(), toPart.createTransformedShape(drawing.shape()), polygons);
        } else if (drawing.isForeground()) {
            throw new Failure("a Foreground annotation is a " + (drawing.form() == Drawing.Form.LINE ? "line" : "set of points")
                    + "; draw the whole cell as a polygon, ellipse, brush or wand annotation (lines may be Background)");
        } else if (drawing.form() == Drawing.Form.LINE) {
            Shape line = toPart.createTransformedShape(drawing.shape());
            BasicStroke pen = new BasicStroke(1, BasicStroke.CAP_BUTT, BasicStroke.JOIN_ROUND);
            addArea(drawing.kind(), pen.createStrokedShape(line), polygons);
        } else {
            double[] point = new double[6];
            for (PathIterator path = drawing.shape().getPathIterator(toPart); !path.isDone(); path.next()) {
                if (path.currentSegment(point) == PathIterator.SEG_MOVETO) {
                    addArea(drawing.kind(),
                            new Rectangle((int) Math.floor(point[0]), (int) Math.floor(point[1]), 1, 1), polygons);
                }
            }
        }
    }

    private static void addArea(Polygon.Kind kind, Shape shape, List<Polygon> polygons) {
        try {
            // An area has neither overlaps nor crossings, whose inside the even-odd rule would take for outside.
            polygons.add(Polygon.of(kind, new Area(shape)));
        } catch (IllegalArgumentException error) {
            // A shape without area, such as a polygon of two points, has no pixels.
        }
    }
}
