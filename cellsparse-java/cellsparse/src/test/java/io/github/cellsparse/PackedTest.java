package io.github.cellsparse;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

/** A file of the jar that XZ Utils packed, with a mark at the end and no size, as packaging/jars.py packs libraries. */
class PackedTest {
    /** What the file holds: letters, runs, and repetitions near and far. */
    private static byte[] content() {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        int seed = 1;
        while (out.size() < 300_000) {
            seed = next(seed);
            int kind = (seed >> 16) % 4;
            if (kind == 0 || out.size() < 1000) {
                for (int i = 0; i < 200; i++) {
                    seed = next(seed);
                    out.write((seed >> 16) % 7 + 'a');
                }
            } else if (kind == 1) {
                byte[] run = new byte[700];
                Arrays.fill(run, (byte) (seed >> 16));
                out.writeBytes(run);
            } else {
                int start = (seed >> 8) % (out.size() - 900);
                out.writeBytes(Arrays.copyOfRange(out.toByteArray(), start, start + 900));
            }
        }
        return out.toByteArray();
    }

    private static int next(int seed) {
        return seed * 1103515245 + 12345 & 0x7fffffff;
    }

    @Test
    void packedFilesAreFoundAndUnpacked() throws IOException {
        try (InputStream stream = NativeLibrary.open("/lzma/packed")) {
            assertArrayEquals(content(), stream.readAllBytes());
        }
    }

    @Test
    void filesThatAreNotThereAreNamed() {
        IOException error = assertThrows(IOException.class, () -> NativeLibrary.open("/lzma/none"));
        assertTrue(error.getMessage().contains("/lzma/none"), error.getMessage());
    }
}
