package io.github.cellsparse;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

/** The files were packed by XZ Utils, with a mark at the end and no size. */
class LzmaTest {
    /** What both files hold: letters, runs, and repetitions near and far. */
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

    private static byte[] file(String name) throws IOException {
        try (InputStream file = LzmaTest.class.getResourceAsStream("/lzma/" + name + ".lzma")) {
            return file.readAllBytes();
        }
    }

    private static byte[] unpack(byte[] packed) throws IOException {
        try (Lzma lzma = new Lzma(new ByteArrayInputStream(packed))) {
            return lzma.readAllBytes();
        }
    }

    /** The file with its size stated in the header. */
    private static byte[] sized(byte[] packed, long size) {
        byte[] copy = packed.clone();
        for (int i = 0; i < 8; i++) {
            copy[5 + i] = (byte) (size >> 8 * i);
        }
        return copy;
    }

    @Test
    void filesOfXzUtilsAreUnpacked() throws IOException {
        byte[] wanted = content();
        for (String name : new String[] {"usual", "other"}) {
            assertArrayEquals(wanted, unpack(file(name)), name);
            assertArrayEquals(wanted, unpack(sized(file(name), wanted.length)), name);
        }
    }

    @Test
    void bytesComeOneByOneToo() throws IOException {
        byte[] wanted = content();
        try (Lzma lzma = new Lzma(new ByteArrayInputStream(file("usual")))) {
            for (byte value : wanted) {
                assertEquals(value & 0xff, lzma.read());
            }
            assertEquals(-1, lzma.read());
            assertEquals(-1, lzma.read(new byte[5], 0, 5));
        }
    }

    @Test
    void filesThatAreCutOffAreRefused() throws IOException {
        byte[] packed = file("usual");
        for (int length : new int[] {0, 1, 12, 13, 17, 18, 1000, packed.length / 2, packed.length - 6}) {
            assertThrows(IOException.class, () -> unpack(Arrays.copyOf(packed, length)), () -> "after " + length);
        }
        // More was promised than is there.
        assertThrows(IOException.class, () -> unpack(sized(packed, content().length + 1)));
    }

    /** Whatever the bytes, there is an exception or an end, and nothing else. */
    @Test
    void damagedFilesDoNoHarm() throws IOException {
        byte[] packed = file("usual");
        int seed = 7;
        for (int round = 0; round < 200; round++) {
            byte[] damaged = packed.clone();
            seed = next(seed);
            damaged[(seed >> 8) % packed.length] ^= (byte) (1 + (seed >> 4) % 255);
            try {
                unpack(sized(damaged, content().length));
            } catch (IOException expected) {
                // One of the two outcomes.
            }
        }
    }
}
