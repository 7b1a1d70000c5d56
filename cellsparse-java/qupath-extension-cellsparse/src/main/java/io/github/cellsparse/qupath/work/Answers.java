package io.github.cellsparse.qupath.work;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.awt.geom.Path2D;
import java.util.ArrayList;
import java.util.List;

/** Reads what servers answer. */
final class Answers {
    private Answers() {}

    /**
     * Objects of a list of GeoJSON features, in pixel-corner coordinates. The original server puts pixel centres at whole
     * numbers; a feature that names its {@code objectType} is in corner coordinates already.
     */
    static List<Found> features(String text) throws Failure {
        try {
            List<Found> found = new ArrayList<>();
            for (JsonElement element : JsonParser.parseString(text).getAsJsonArray()) {
                JsonObject feature = element.getAsJsonObject();
                JsonObject geometry = feature.getAsJsonObject("geometry");
                JsonElement given = feature.get("properties");
                // GeoJSON allows null.
                JsonObject properties = given == null || given.isJsonNull() ? new JsonObject() : given.getAsJsonObject();
                double shift = properties.has("objectType") ? 0 : 0.5;
                JsonArray coordinates = geometry.getAsJsonArray("coordinates");
                Path2D path = new Path2D.Double(Path2D.WIND_EVEN_ODD);
                if (geometry.get("type").getAsString().equals("MultiPolygon")) {
                    coordinates.forEach(part -> addRings(part.getAsJsonArray(), shift, path));
                } else {
                    addRings(coordinates, shift, path);
                }
                if (path.getCurrentPoint() != null) {
                    found.add(new Found(path, probability(properties)));
                }
            }
            return found;
        } catch (RuntimeException error) {
            // Gson has an exception of its own for each way in which a text differs from what was expected.
            throw new Failure("the server's answer is not a list of GeoJSON features: " + shortened(text), error);
        }
    }

    /** What a refusal says. */
    static String reason(String text) {
        try {
            JsonElement detail = JsonParser.parseString(text).getAsJsonObject().get("detail");
            if (detail.isJsonPrimitive()) {
                return detail.getAsString();
            }
            List<String> parts = new ArrayList<>();
            for (JsonElement part : detail.getAsJsonArray()) {
                JsonObject object = part.getAsJsonObject();
                JsonArray place = object.getAsJsonArray("loc");
                parts.add(place.get(place.size() - 1).getAsString() + ": " + object.get("msg").getAsString());
            }
            return String.join("; ", parts);
        } catch (RuntimeException error) {
            return shortened(text);
        }
    }

    /** Whether a refusal says that a field of the body is missing. */
    static boolean misses(String text, String field) {
        try {
            for (JsonElement part : JsonParser.parseString(text).getAsJsonObject().getAsJsonArray("detail")) {
                JsonArray place = part.getAsJsonObject().getAsJsonArray("loc");
                if (place.size() == 2 && place.get(1).getAsString().equals(field)
                        && part.getAsJsonObject().get("msg").getAsString().equals("field required")) {
                    return true;
                }
            }
        } catch (RuntimeException error) {
            // A refusal of another form says nothing of fields.
        }
        return false;
    }

    private static double probability(JsonObject properties) {
        JsonElement measurements = properties.get("measurements");
        if (measurements == null || !measurements.isJsonObject() || !measurements.getAsJsonObject().has("probability")) {
            return Double.NaN;
        }
        return measurements.getAsJsonObject().get("probability").getAsDouble();
    }

    private static void addRings(JsonArray rings, double shift, Path2D path) {
        for (JsonElement element : rings) {
            JsonArray ring = element.getAsJsonArray();
            if (ring.size() < 4) {
                continue;
            }
            for (int i = 0; i < ring.size() - 1; i++) {
                double x = ring.get(i).getAsJsonArray().get(0).getAsDouble() + shift;
                double y = ring.get(i).getAsJsonArray().get(1).getAsDouble() + shift;
                if (i == 0) {
                    path.moveTo(x, y);
                } else {
                    path.lineTo(x, y);
                }
            }
            path.closePath();
        }
    }

    private static String shortened(String text) {
        String line = text.strip();
        return line.isEmpty() ? "(nothing)" : line.length() > 300 ? line.substring(0, 300) + "..." : line;
    }
}
