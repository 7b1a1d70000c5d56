package io.github.cellsparse.qupath;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.cellsparse.qupath.work.DrawnSlide;
import java.awt.Rectangle;
import java.awt.image.BufferedImage;
import java.awt.image.DataBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import qupath.lib.images.ImageData;
import qupath.lib.projects.Project;

/** Where results go when the image was closed, or opened anew, while they were made. */
class ViewedImageTest {
    @TempDir
    Path folder;

    private final Fakes.Data image = data();
    private final Fakes.Data other = data();
    private final List<ImageData<BufferedImage>> shown = new ArrayList<>(List.of(other));

    private static Fakes.Data data() {
        return new Fakes.Data(new DrawnSlide(20, 20, 1, DataBuffer.TYPE_BYTE));
    }

    /** Puts an object into the image and returns what is told of it. */
    private String put(Project<BufferedImage> project) {
        ViewedImage viewed = new ViewedImage(image, project, () -> shown, Runnable::run);
        viewed.change(one -> one.getHierarchy().addObjects(List.of(Fakes.annotation(new Rectangle(2, 2, 5, 5), "Cellsparse"))));
        assertEquals(0, other.objects.all.size());
        return viewed.outcome();
    }

    private Fakes.Images project() {
        return new Fakes.Images(folder, new ArrayList<>(List.of(image, other)));
    }

    @Test
    void anImageThatIsShownIsChanged() {
        shown.add(image);
        image.reopened = data();
        assertEquals("", put(project()));
        assertEquals("", put(null));
        assertEquals(2, image.objects.all.size());
        assertEquals(0, image.saves + image.reopened.saves);
    }

    @Test
    void anImageThatWasOpenedAnewIsChangedThere() {
        image.reopened = data();
        shown.add(image.reopened);
        assertEquals("", put(project()));
        assertEquals(1, image.reopened.objects.all.size());
        assertEquals(0, image.objects.all.size() + image.reopened.saves);
    }

    @Test
    void anImageThatIsClosedIsChangedAsItIsSaved() {
        image.reopened = data();
        String told = put(project());
        assertTrue(told.contains("saved in the project") && told.contains("'image 0'"), told);
        assertEquals(1, image.reopened.objects.all.size());
        assertEquals(1, image.reopened.saves);
        assertTrue(image.reopened.closed);
        assertEquals(0, image.objects.all.size() + image.saves);
    }

    @Test
    void whatCannotBeShownIsSaid() {
        assertTrue(put(null).contains("could not be shown"));
        assertTrue(put(new Fakes.Images(folder, List.of(other))).contains("could not be shown"));
    }
}
