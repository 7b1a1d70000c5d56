package io.github.cellsparse;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.Rectangle;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Outlines by click, by random weights of a tiny network; what they say is compared with the original in tests/golden. */
class SamTest {
    private static final Path WEIGHTS = Path.of("../../tests/fixtures/sam/small_weights.safetensors");

    /** The first place of a grid where the network finds something. */
    private static SamPrompt found(Sam sam, Image image) {
        for (double y = 5; y < Fields.SIDE; y += 9) {
            for (double x = 5; x < Fields.SIDE; x += 9) {
                SamPrompt prompt = SamPrompt.point(x, y);
                try (Segmentation found = sam.masks(image, List.of(prompt), null)) {
                    if (found.objectCount() > 0) {
                        return prompt;
                    }
                }
            }
        }
        throw new AssertionError("nothing was found anywhere");
    }

    @Test
    void clicksAndBoxesBecomeObjectsWithOutlines() {
        try (Sam sam = Sam.load(WEIGHTS)) {
            assertEquals("other", sam.kind());
            assertEquals(96, sam.size());
            Image image = Fields.image();
            SamPrompt click = found(sam, image);
            SamPrompt box = SamPrompt.box(2, 3, 30, 28).without(4, 4);
            try (Segmentation one = sam.masks(image, List.of(click), new CancelToken());
                    Segmentation again = sam.masks(image, List.of(click, box), null)) {
                assertEquals(1, one.objectCount());
                assertEquals(Fields.SIDE, one.height());
                assertTrue(one.objects().get(0).probability() >= 0 && one.objects().get(0).probability() <= 1);
                Outline outline = one.outlines(OutlineOptions.exact()).get(0);
                assertEquals(1, outline.id());
                long pixels = java.util.Arrays.stream(one.labels()).filter(label -> label == 1).count();
                int inside = 0;
                for (int i = 0; i < one.labels().length; i++) {
                    inside += outline.toShape().contains(i % Fields.SIDE + 0.5, i / Fields.SIDE + 0.5) ? 1 : 0;
                }
                assertEquals(pixels, inside);
                // A second object takes no pixel of the first one.
                int[] labels = again.labels();
                for (int i = 0; i < labels.length; i++) {
                    assertEquals(one.labels()[i] == 1, labels[i] == 1);
                }
            }
            try (Segmentation here = sam.masks(image, List.of(click), null);
                    Segmentation moved = sam.masks(image, List.of(click.in(-3, -2, 1, 1).in(3, 2, 1, 1)), null)) {
                assertArrayEquals(here.labels(), moved.labels());
            }
        }
    }

    @Test
    void aPartOfALargeImageIsLookedAtAroundTheView() {
        try (Sam sam = Sam.load(WEIGHTS, "cpu")) {
            SamPrompt click = SamPrompt.point(3050, 2040);
            Rectangle part = sam.part(5000, 8000, new Rectangle(3030, 2010, 50, 60), click);
            assertEquals(96, part.width);
            assertEquals(96, part.height);
            assertTrue(part.contains(new Rectangle(3030, 2010, 50, 60)), part.toString());
            assertEquals(part, sam.part(5000, 8000, new Rectangle(3032, 2012, 48, 60), click));
            assertEquals(new Rectangle(0, 0, 8000, 5000), sam.part(5000, 8000, new Rectangle(-9, -9, 9999, 9999), click));
            assertEquals(new Rectangle(0, 0, 150, 90), sam.part(90, 150, new Rectangle(3, 3, 5, 5), SamPrompt.point(1, 1)));
        }
    }

    @Test
    void whatCannotBeOutlinedIsSaid() {
        CellsparseException absent = assertThrows(CellsparseException.File.class, () -> Sam.load(Path.of("absent.pth")));
        assertTrue(absent.getMessage().contains("mobile_sam.pt"), absent.getMessage());
        Sam sam = Sam.load(WEIGHTS);
        assertThrows(CellsparseException.Config.class,
                () -> sam.masks(Fields.image(), List.of(SamPrompt.point(9, 999)), null));
        CancelToken raised = new CancelToken();
        raised.cancel();
        Image other = Image.of(new byte[Fields.SIDE * Fields.SIDE], Fields.SIDE, Fields.SIDE, 1);
        assertThrows(CellsparseException.Cancelled.class, () -> sam.masks(other, List.of(SamPrompt.point(9, 9)), raised));
        sam.close();
        sam.close();
        assertThrows(IllegalStateException.class, () -> sam.masks(other, List.of(SamPrompt.point(9, 9)), null));
    }
}
