package io.github.cellsparse;

import java.util.Locale;

/** A segmentation algorithm. */
public enum Algorithm {
    /** Star-convex polygons: round and convex objects, such as nuclei. */
    STARDIST,
    /** Flows towards cell centres: cells of any shape. */
    CELLPOSE,
    /** Background, border and centre: small, crowded nuclei. */
    ELEPHANT;

    /** The name in options, model files and on the command line: {@code stardist}. */
    public String id() {
        return name().toLowerCase(Locale.ROOT);
    }

    /**
     * The algorithm of a name such as {@code stardist}.
     *
     * @throws IllegalArgumentException if there is none of that name
     */
    public static Algorithm of(String id) {
        for (Algorithm algorithm : values()) {
            if (algorithm.id().equals(id)) {
                return algorithm;
            }
        }
        throw new IllegalArgumentException("unknown algorithm '" + id + "'; there are stardist, cellpose and elephant");
    }
}
