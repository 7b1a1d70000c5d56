package io.github.cellsparse.qupath;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.cellsparse.CancelToken;
import io.github.cellsparse.Image;
import io.github.cellsparse.OutlineOptions;
import io.github.cellsparse.Sam;
import io.github.cellsparse.SamPrompt;
import io.github.cellsparse.Segmentation;
import io.github.cellsparse.qupath.ClickedObjects.Asked;
import io.github.cellsparse.qupath.ClickedObjects.Kind;
import io.github.cellsparse.qupath.ClickedObjects.Seen;
import io.github.cellsparse.qupath.work.DrawnSlide;
import io.github.cellsparse.qupath.work.Failure;
import io.github.cellsparse.qupath.work.Found;
import java.awt.Rectangle;
import java.awt.geom.Area;
import java.awt.geom.Path2D;
import java.awt.geom.Rectangle2D;
import java.awt.image.BufferedImage;
import java.awt.image.DataBuffer;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import qupath.lib.gui.prefs.PathPrefs;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;

/** Clicks and boxes in, annotations out, with stand-ins for QuPath and random weights of a tiny network. */
class ClickedObjectsTest {
    private static final Path WEIGHTS = Path.of("../../tests/fixtures/sam/small_weights.safetensors");
    private static final PathClass TUMOR = PathClass.fromString("Tumor");

    private final DrawnSlide slide = new DrawnSlide(160, 120, 1, DataBuffer.TYPE_BYTE).grid(44, 16);
    private final Fakes.Data image = new Fakes.Data(slide);
    private final ClickedObjects objects = new ClickedObjects();

    @AfterEach
    void close() {
        objects.close();
    }

    private Seen seen(Rectangle view) {
        return new Seen(new QuPathSlide(image.getServer(), 0, 0, false), image.objects, picture -> picture, view, 0, 0);
    }

    private Seen seen() {
        return seen(new Rectangle(0, 0, 160, 120));
    }

    private Optional<Found> find(Asked asked) throws Failure {
        return objects.find(WEIGHTS, seen(), asked, new CancelToken());
    }

    /** Clicks until something is found, which of random weights is not everywhere. */
    private Asked click() throws Failure {
        for (int y = 10; y < 120; y += 20) {
            for (int x = 10; x < 160; x += 20) {
                Asked asked = objects.clicked(image.objects, x, y, Kind.NEW);
                if (find(asked).isPresent()) {
                    return asked;
                }
            }
        }
        throw new AssertionError("nothing was found anywhere");
    }

    @Test
    void aClickBecomesAnAnnotationThatFurtherClicksCorrect() throws Exception {
        Asked first = click();
        Found found = find(first).orElseThrow();
        PathObject made = objects.put(seen(), first, found, TUMOR);
        assertEquals(List.of(made), image.objects.all);
        assertTrue(made.isAnnotation() && !made.isLocked() && made.getPathClass() == TUMOR);
        assertTrue(new Rectangle(0, 0, 160, 120).contains(made.getROI().getShape().getBounds2D()));
        // What the library finds in the pixels of the image: it is small, and seen whole.
        try (Sam sam = Sam.load(WEIGHTS);
                Segmentation expected = sam.masks(
                        Image.of(slide.read(1, 0, 0, 160, 120)), List.of(prompt(first)), null)) {
            Path2D shape = expected.outlines(OutlineOptions.exact()).get(0).toShape();
            assertTrue(new Area(shape).equals(new Area(made.getROI().getShape())));
        }
        Asked corrected = objects.clicked(image.objects, 100, 60, Kind.INSIDE);
        Asked again = objects.clicked(image.objects, 20, 100, Kind.BESIDE);
        PathObject second = objects.put(seen(), corrected, found, TUMOR);
        PathObject third = objects.put(seen(), again, found, TUMOR);
        assertEquals(List.of(third), image.objects.all, "the last object has one annotation");
        assertFalse(second == third);
        Asked other = objects.boxed(image.objects, new Rectangle2D.Double(20, 20, 60, 50));
        objects.put(seen(), other, found, TUMOR);
        assertEquals(2, image.objects.all.size());
        // One that the user deleted stays away, and the next clicks are about another one.
        image.objects.all.remove(third);
        objects.put(seen(), again, found, TUMOR);
        assertEquals(2, image.objects.all.size());
    }

    private static SamPrompt prompt(Asked asked) throws ReflectiveOperationException {
        var field = Asked.class.getDeclaredField("prompt");
        field.setAccessible(true);
        return (SamPrompt) field.get(asked);
    }

    @Test
    void aClickBesideNothingIsNone() {
        assertNull(objects.clicked(image.objects, 10, 10, Kind.BESIDE));
        Fakes.Data other = new Fakes.Data(slide);
        Asked first = objects.clicked(image.objects, 10, 10, Kind.INSIDE);
        assertNull(objects.clicked(other.objects, 10, 10, Kind.BESIDE), "of another image");
        assertTrue(first != null);
    }

    @Test
    void ofALargeSlideThePartInViewIsRead() throws Exception {
        DrawnSlide large = new DrawnSlide(2000, 1500, 1, DataBuffer.TYPE_USHORT).grid(60, 24);
        Fakes.Data data = new Fakes.Data(large);
        Seen near = new Seen(new QuPathSlide(data.getServer(), 0, 0, false), data.objects,
                ClickedObjectsTest::bright, new Rectangle(1000, 800, 50, 40), 0, 0);
        Asked asked = objects.clicked(data.objects, 1020, 815, Kind.NEW);
        Optional<Found> found = objects.find(WEIGHTS, near, asked, new CancelToken());
        found.ifPresent(one -> assertTrue(new Rectangle(930, 730, 200, 200).contains(one.shape().getBounds2D()),
                one.shape().getBounds2D().toString()));
        Seen far = new Seen(near.slide(), data.objects, ClickedObjectsTest::bright, new Rectangle(0, 0, 2000, 1500), 0, 0);
        found = objects.find(WEIGHTS, far, asked, new CancelToken());
        found.ifPresent(one -> assertTrue(new Rectangle(0, 0, 2000, 1500).contains(one.shape().getBounds2D())));
    }

    /** As a viewer shows 16 bits. */
    private static BufferedImage bright(BufferedImage picture) {
        assertTrue(picture.getWidth() <= 200 && picture.getHeight() <= 200, "no more is read than is seen");
        BufferedImage shown = new BufferedImage(picture.getWidth(), picture.getHeight(), BufferedImage.TYPE_INT_RGB);
        for (int y = 0; y < picture.getHeight(); y++) {
            for (int x = 0; x < picture.getWidth(); x++) {
                shown.setRGB(x, y, 0x010101 * Math.min(255, picture.getRaster().getSample(x, y, 0)));
            }
        }
        return shown;
    }

    @Test
    void whatIsMissingIsSaid() {
        Asked asked = objects.clicked(image.objects, 10, 10, Kind.NEW);
        for (Path weights : new Path[] {null, Path.of(""), Path.of("absent.pth")}) {
            Failure failure = assertThrows(
                    Failure.class, () -> objects.find(weights, seen(), asked, new CancelToken()));
            assertTrue(failure.getMessage().contains("mobile_sam.pt"), failure.getMessage());
        }
        Failure damaged = assertThrows(
                Failure.class, () -> objects.find(Path.of("pom.xml"), seen(), asked, new CancelToken()));
        assertTrue(damaged.getMessage().contains("pom.xml"), damaged.getMessage());
        Asked outside = objects.clicked(image.objects, 10, 500, Kind.NEW);
        assertThrows(Failure.class, () -> objects.find(WEIGHTS, seen(), outside, new CancelToken()));
        CancelToken stopped = new CancelToken();
        stopped.cancel();
        assertThrows(Failure.class, () -> objects.find(WEIGHTS, seen(), asked, stopped));
    }

    @Test
    void theClassIsThatOfNewAnnotationsOrOfCellsToLearnFrom() {
        assertEquals(PathClass.fromString("Foreground"), ClickTool.chosenClass());
        PathPrefs.autoSetAnnotationClassProperty().set(TUMOR);
        assertEquals(TUMOR, ClickTool.chosenClass());
        PathPrefs.autoSetAnnotationClassProperty().set(null);
        assertNull(ClickTool.weights());
    }
}
