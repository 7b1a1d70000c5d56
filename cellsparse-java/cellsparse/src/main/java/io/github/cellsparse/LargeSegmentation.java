package io.github.cellsparse;

import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What a segmentation by parts came to.
 *
 * @param objects number of objects
 * @param height rows of the level that was segmented
 * @param width columns of the level that was segmented
 * @param pixelSize micrometres per pixel of the level, height and width; empty where they are not known
 * @param notes what a user should know of the result, one sentence each
 * @param wasFinished whether a run that goes on had nothing left to do, so that nothing was written
 */
public record LargeSegmentation(
        long objects, int height, int width, Optional<List<Double>> pixelSize, List<String> notes, boolean wasFinished) {
    /** The summary that the native library tells. */
    static LargeSegmentation of(Map<String, Object> told) {
        List<Double> shape = numbers(told.get("shape"));
        return new LargeSegmentation(((Number) told.get("objects")).longValue(), shape.get(0).intValue(), shape.get(1).intValue(),
                Optional.ofNullable(told.get("pixel_size")).map(LargeSegmentation::numbers), Json.texts(told.get("notes")),
                Boolean.TRUE.equals(told.get("was_finished")));
    }

    private static List<Double> numbers(Object list) {
        return ((List<?>) list).stream().map(value -> ((Number) value).doubleValue()).toList();
    }
}
