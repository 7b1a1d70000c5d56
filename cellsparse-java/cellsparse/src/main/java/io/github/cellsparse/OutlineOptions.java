package io.github.cellsparse;

import java.util.LinkedHashMap;
import java.util.Map;

/** How objects are outlined. Immutable. */
public final class OutlineOptions {
    final Map<String, Object> values;

    private OutlineOptions(String rule, double simplify) {
        values = new LinkedHashMap<>();
        values.put("outline", rule);
        values.put("simplify", simplify);
    }

    /** Along the pixel edges, holes and parts kept: draws back to the same pixels. */
    public static OutlineOptions exact() {
        return new OutlineOptions("exact", 0);
    }

    /**
     * The rule of cellsparse-api 0.2, point for point: one ring for every object, pixel <em>centres</em> at integers, and no
     * ring for an object that the simplification reduces to less than a triangle.
     */
    public static OutlineOptions literal() {
        return new OutlineOptions("literal", 0);
    }

    /** These options with points left out that lie within {@code pixels} of the line through the others. */
    public OutlineOptions simplified(double pixels) {
        return new OutlineOptions((String) values.get("outline"), pixels);
    }

    String json() {
        return Json.write(values);
    }
}
