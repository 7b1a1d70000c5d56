package io.github.cellsparse.qupath;

import java.awt.Shape;
import java.awt.geom.Area;
import java.awt.geom.Path2D;
import java.awt.geom.PathIterator;
import java.awt.geom.Rectangle2D;
import java.math.BigDecimal;
import java.math.RoundingMode;

/** Regions as texts that scripts hold: rings {@code x,y x,y x,y; x,y ...}, by the even-odd rule. */
final class Regions {
    /** How far a written outline may lie from a curve, in full-resolution pixels. */
    private static final double FLATNESS = 0.1;
    /** Digits of a written coordinate behind the point. */
    private static final int DIGITS = 3;

    private Regions() {}

    /** Whether a shape is a rectangle along the axes. */
    static boolean isRectangle(Shape shape) {
        Rectangle2D box = shape.getBounds2D();
        return shape instanceof Rectangle2D || !box.isEmpty() && shape.contains(box);
    }

    /** The rings of a shape, curves as lines. */
    static String write(Shape shape) {
        StringBuilder text = new StringBuilder();
        double[] point = new double[6];
        // An area has neither overlaps nor crossings, so the rule of the shape no longer matters.
        for (PathIterator path = new Area(shape).getPathIterator(null, FLATNESS); !path.isDone(); path.next()) {
            int segment = path.currentSegment(point);
            if (segment != PathIterator.SEG_CLOSE) {
                String before = text.isEmpty() ? "" : segment == PathIterator.SEG_MOVETO ? "; " : " ";
                text.append(before).append(number(point[0])).append(',').append(number(point[1]));
            }
        }
        return text.toString();
    }

    /** The shape of rings. */
    static Shape read(String text) {
        Path2D path = new Path2D.Double(Path2D.WIND_EVEN_ODD);
        for (String ring : text.split(";", -1)) {
            String[] points = ring.strip().split("\\s+");
            if (points.length < 3) {
                throw refusal(ring);
            }
            for (int i = 0; i < points.length; i++) {
                double[] point = point(points[i]);
                if (i == 0) {
                    path.moveTo(point[0], point[1]);
                } else {
                    path.lineTo(point[0], point[1]);
                }
            }
            path.closePath();
        }
        return path;
    }

    private static double[] point(String text) {
        String[] numbers = text.split(",", -1);
        try {
            double[] point = {Double.parseDouble(numbers[0]), Double.parseDouble(numbers[1])};
            if (numbers.length == 2 && Double.isFinite(point[0]) && Double.isFinite(point[1])) {
                return point;
            }
        } catch (NumberFormatException | ArrayIndexOutOfBoundsException error) {
            // Told below.
        }
        throw refusal(text);
    }

    private static IllegalArgumentException refusal(String text) {
        String part = text.length() > 60 ? text.substring(0, 60) + "..." : text;
        return new IllegalArgumentException("'" + part.strip() + "' is no part of a polygon; expected three points or more as in"
                + " '0,0 100,0 100,50', and a semicolon between rings");
    }

    private static String number(double value) {
        BigDecimal rounded = BigDecimal.valueOf(value).setScale(DIGITS, RoundingMode.HALF_EVEN);
        return rounded.signum() == 0 ? "0" : rounded.stripTrailingZeros().toPlainString();
    }
}
