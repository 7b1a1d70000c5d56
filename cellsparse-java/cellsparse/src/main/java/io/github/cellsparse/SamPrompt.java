package io.github.cellsparse;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What is known of one object: points in it and beside it, a box around it, or both, in pixel-corner coordinates (the pixel in row
 * r and column c covers {@code [c, c + 1] x [r, r + 1]}). Immutable.
 */
public final class SamPrompt {
    private final List<List<Double>> points;
    private final List<Double> box;

    private SamPrompt(List<List<Double>> points, List<Double> box) {
        this.points = List.copyOf(points);
        this.box = box;
    }

    /** A point in the object. */
    public static SamPrompt point(double x, double y) {
        return new SamPrompt(List.of(List.of(x, y, 1.0)), null);
    }

    /** A box around the object: left, upper, right and lower edge. */
    public static SamPrompt box(double x0, double y0, double x1, double y1) {
        return new SamPrompt(List.of(), List.of(x0, y0, x1, y1));
    }

    /** The same with one more point in the object. */
    public SamPrompt with(double x, double y) {
        return and(List.of(x, y, 1.0));
    }

    /** The same with one more point beside the object. */
    public SamPrompt without(double x, double y) {
        return and(List.of(x, y, 0.0));
    }

    /** The same in other coordinates: {@code (value - origin) / scale} of both axes. */
    public SamPrompt in(double originX, double originY, double scaleX, double scaleY) {
        List<List<Double>> moved = new ArrayList<>();
        points.forEach(point -> moved.add(
                List.of((point.get(0) - originX) / scaleX, (point.get(1) - originY) / scaleY, point.get(2))));
        return new SamPrompt(moved, box == null ? null : List.of(
                (box.get(0) - originX) / scaleX, (box.get(1) - originY) / scaleY,
                (box.get(2) - originX) / scaleX, (box.get(3) - originY) / scaleY));
    }

    private SamPrompt and(List<Double> point) {
        List<List<Double>> all = new ArrayList<>(points);
        all.add(point);
        return new SamPrompt(all, box);
    }

    static String json(List<SamPrompt> prompts) {
        List<Map<String, Object>> all = new ArrayList<>();
        for (SamPrompt prompt : prompts) {
            Map<String, Object> one = new LinkedHashMap<>();
            one.put("points", prompt.points);
            if (prompt.box != null) {
                one.put("box", prompt.box);
            }
            all.add(one);
        }
        return Json.write(all);
    }
}
