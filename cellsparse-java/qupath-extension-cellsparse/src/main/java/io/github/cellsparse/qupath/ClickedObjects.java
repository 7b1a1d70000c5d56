package io.github.cellsparse.qupath;

import io.github.cellsparse.CancelToken;
import io.github.cellsparse.SamPrompt;
import io.github.cellsparse.qupath.work.Clicks;
import io.github.cellsparse.qupath.work.Failure;
import io.github.cellsparse.qupath.work.Found;
import io.github.cellsparse.qupath.work.Slide;
import java.awt.Rectangle;
import java.awt.geom.Rectangle2D;
import java.awt.image.BufferedImage;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.function.UnaryOperator;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;

/**
 * Objects that are outlined by click. A click or a box begins a new one, which is at once an annotation; further clicks in it or beside it
 * correct the last one. Used by one thread, but for {@link #find} and {@link #close}.
 */
final class ClickedObjects {
    /** What a click says. */
    enum Kind {
        /** It lies in a new object. */
        NEW,
        /** It lies in the last object too. */
        INSIDE,
        /** It does not lie in the last object. */
        BESIDE
    }

    /** The image that is clicked on, as it is seen. */
    record Seen(Slide slide, PathObjectHierarchy hierarchy, UnaryOperator<BufferedImage> shown, Rectangle view, int z, int t) {}

    /** One object: what is known of it, and the annotation that it has. */
    private static final class Clicked {
        private final PathObjectHierarchy place;
        private SamPrompt prompt;
        private PathObject annotation;

        Clicked(PathObjectHierarchy place, SamPrompt prompt) {
            this.place = place;
            this.prompt = prompt;
        }
    }

    /** A question for the network. */
    static final class Asked {
        private final Clicked object;
        private final SamPrompt prompt;

        private Asked(Clicked object) {
            this.object = object;
            prompt = object.prompt;
        }
    }

    private final Clicks clicks = new Clicks();
    private Clicked last;

    /** What is asked after a click; null for one that corrects nothing. */
    Asked clicked(PathObjectHierarchy hierarchy, double x, double y, Kind kind) {
        if (kind != Kind.NEW && last != null && last.place == hierarchy) {
            last.prompt = kind == Kind.INSIDE ? last.prompt.with(x, y) : last.prompt.without(x, y);
            return new Asked(last);
        }
        return kind == Kind.BESIDE ? null : begin(hierarchy, SamPrompt.point(x, y));
    }

    /** What is asked after a box was drawn. */
    Asked boxed(PathObjectHierarchy hierarchy, Rectangle2D box) {
        return begin(hierarchy, SamPrompt.box(box.getMinX(), box.getMinY(), box.getMaxX(), box.getMaxY()));
    }

    private Asked begin(PathObjectHierarchy hierarchy, SamPrompt prompt) {
        last = new Clicked(hierarchy, prompt);
        return new Asked(last);
    }

    /** Finds the object. Takes seconds, the first time in a part of an image; on any thread. */
    Optional<Found> find(Path weights, Seen seen, Asked asked, CancelToken cancel) throws Failure {
        return clicks.outline(weights, seen.slide(), seen.shown(), seen.view(), asked.prompt, cancel);
    }

    /** Makes what was found an annotation of a class, in place of the one that the object had before. */
    PathObject put(Seen seen, Asked asked, Found found, PathClass pathClass) {
        PathObject made = QuPathObjects.annotation(found, pathClass, seen.z(), seen.t());
        PathObject before = asked.object.annotation;
        if (before != null && seen.hierarchy().getAnnotationObjects().contains(before)) {
            seen.hierarchy().removeObjects(List.of(before), true);
        }
        seen.hierarchy().addObjects(List.of(made));
        asked.object.annotation = made;
        return made;
    }

    /** Gives back the memory of the network. */
    void close() {
        clicks.close();
    }
}
