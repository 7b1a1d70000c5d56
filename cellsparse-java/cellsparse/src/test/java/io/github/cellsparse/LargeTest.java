package io.github.cellsparse;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Images that pass through Java part by part. */
class LargeTest {
    private static final PredictOptions LOOSE = PredictOptions.builder().probThresh(0.01).build();

    /** The drawn image, read as an application would: arrays, or strided buffers. */
    private static class Parts implements RegionSource {
        private final byte[] pixels = Fields.pixels();
        private final boolean strided;
        private int reads;

        Parts(boolean strided) {
            this.strided = strided;
        }

        @Override
        public int height() {
            return Fields.SIDE;
        }

        @Override
        public int width() {
            return Fields.SIDE;
        }

        @Override
        public int channels() {
            return 1;
        }

        @Override
        public Image.SampleType type() {
            return Image.SampleType.UINT8;
        }

        @Override
        public double[] pixelSize() {
            return new double[] {0.5, 0.25};
        }

        @Override
        public Image read(int top, int left, int height, int width) throws IOException {
            reads++;
            if (strided) {
                ByteBuffer all = ByteBuffer.allocateDirect(pixels.length).order(ByteOrder.nativeOrder());
                all.put(pixels).position(top * Fields.SIDE + left);
                return Image.of(all, type(), height, width, 1, Fields.SIDE, 1, 1);
            }
            byte[] part = new byte[height * width];
            for (int y = 0; y < height; y++) {
                System.arraycopy(pixels, (top + y) * Fields.SIDE + left, part, y * width, width);
            }
            return Image.of(part, height, width, 1);
        }
    }

    private static LargeOptions.Builder loose() {
        return LargeOptions.builder().predict(LOOSE).skipEmpty(false);
    }

    @Test
    void partsMakeWhatTheWholeImageMakes(@TempDir Path folder) throws IOException {
        Path outlines = folder.resolve("cells.geojson");
        Path table = folder.resolve("cells.csv");
        try (Model model = Fields.trained();
                Segmentation whole = model.predict(Fields.image(), LOOSE)) {
            for (boolean strided : new boolean[] {false, true}) {
                Parts image = new Parts(strided);
                int[] labels = new int[Fields.SIDE * Fields.SIDE];
                List<LargeProgress> events = new ArrayList<>();
                Thread caller = Thread.currentThread();
                LargeOptions options = loose()
                        .labels((top, left, height, width, block) -> {
                            assertSame(caller, Thread.currentThread());
                            for (int y = 0; y < height; y++) {
                                System.arraycopy(block, y * width, labels, (top + y) * Fields.SIDE + left, width);
                            }
                        })
                        .listener(events::add)
                        .output(outlines)
                        .output(table)
                        .build();
                LargeSegmentation found = model.predictLarge(image, options);
                assertArrayEquals(whole.labels(), labels);
                assertEquals(whole.objectCount(), found.objects());
                assertEquals(List.of(Fields.SIDE, Fields.SIDE), List.of(found.height(), found.width()));
                assertEquals(Optional.of(List.of(0.5, 0.25)), found.pixelSize());
                assertTrue(image.reads > 0 && events.stream().anyMatch(event -> event.phase().equals("network")));
                assertTrue(Files.readString(outlines).contains("\"Polygon\""));
                assertEquals(found.objects() + 1, Files.readAllLines(table).size());
            }
        }
    }

    @Test
    void whatAProgramThrowsComesBackAndTheModelGoesOn() {
        try (Model model = Fields.trained()) {
            Parts image = new Parts(false);
            IOException full = new IOException("the disk is full");
            LargeOptions failing = loose().labels((top, left, height, width, block) -> {
                throw full;
            }).build();
            assertSame(full, assertThrows(UncheckedIOException.class, () -> model.predictLarge(image, failing)).getCause());
            LargeOptions odd = loose().listener(event -> {
                throw new IllegalStateException("odd");
            }).build();
            assertEquals("odd", assertThrows(IllegalStateException.class, () -> model.predictLarge(image, odd)).getMessage());
            LargeOptions stopping = loose().listener(event -> false).build();
            assertThrows(CellsparseException.Cancelled.class, () -> model.predictLarge(image, stopping));
            RegionSource small = new Parts(false) {
                @Override
                public Image.SampleType type() {
                    return Image.SampleType.FLOAT32;
                }

                @Override
                public Image read(int top, int left, int height, int width) {
                    return Image.of(new float[1], 1, 1, 1);
                }
            };
            String message = assertThrows(CellsparseException.Image.class, () -> model.predictLarge(small, loose().build()))
                    .getMessage();
            assertTrue(message.contains("came as 1 x 1 pixels"), message);
            assertThrows(CellsparseException.Config.class,
                    () -> model.predictLarge(image, loose().output(Path.of("cells.png")).build()));
            assertThrows(CellsparseException.NotFound.class,
                    () -> model.predictLarge(Path.of("no such.tif"), loose().build()));
            assertEquals(Fields.SIDE, model.predictLarge(image, loose().build()).height());
        }
    }
}
