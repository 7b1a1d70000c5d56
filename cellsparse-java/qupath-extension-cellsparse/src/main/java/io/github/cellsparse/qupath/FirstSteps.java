package io.github.cellsparse.qupath;

import io.github.cellsparse.Polygon;
import java.util.Collection;
import java.util.List;
import java.util.stream.Stream;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;

/** What is told to who chooses a training before a cell is drawn. */
final class FirstSteps {
    static final String TITLE = "Cellsparse: what to draw";

    static final String TEXT = """
            Nothing is drawn yet that a network could learn from.

            1. Outline five to ten whole cells, each as an annotation of its own, with the polygon, the brush or the wand,
               and set the class Foreground. Take bright and dark ones, large and small ones, and some that touch.
            2. Draw a few strokes of the class Background: right beside some of these cells, and one or two where
               nothing is. What is not drawn counts as unknown.
            3. Choose Training again. It takes about a minute, and its results are shown in the image.

            Add the classes Foreground and Background to the list of classes?""";

    private FirstSteps() {}

    /** Whether no annotation of an image is a cell. */
    static boolean missing(PathObjectHierarchy hierarchy) {
        return hierarchy.getAnnotationObjects().stream()
                .noneMatch(object -> QuPathObjects.kind(object) == Polygon.Kind.FOREGROUND);
    }

    /** The classes to draw with that are not among the given ones. */
    static List<PathClass> absent(Collection<PathClass> classes) {
        return Stream.of("Foreground", "Background").map(PathClass::fromString)
                .filter(wanted -> !classes.contains(wanted)).toList();
    }
}
