package io.github.cellsparse;

import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;

/**
 * What a file of the format {@code .lzma} holds. Native libraries come a third smaller by it than by what Java itself has.
 *
 * <p>Written after the specification of LZMA (lzma-specification.txt of the LZMA SDK, public domain); names are those of the
 * specification where it has one.
 */
final class Lzma extends InputStream {
    private static final int LARGEST_WINDOW = 1 << 26;
    /** A match is at most 273 bytes long. */
    private static final int AHEAD = 1 << 12;

    private static final int STATES = 12;
    private static final int LENGTH_STATES = 4;

    private final InputStream packed;
    private final byte[] input = new byte[1 << 16];
    private int inputAt;
    private int inputEnd;

    private final byte[] window;
    private final long dictionary;
    /** Bytes unpacked so far, and those of them that were handed out. */
    private long total;

    private long given;
    /** How many bytes there are, or negative: a mark says where they end. */
    private final long size;

    private boolean ended;

    private final int literalContext;
    private final int literalPosition;
    private final int position;

    private int range = -1;
    private int code;
    private int state;
    private final long[] distances = new long[4];

    private final short[] literals;
    private final short[] isMatch = even(STATES << 4);
    private final short[] isRepeat = even(STATES);
    private final short[] isRepeat0 = even(STATES);
    private final short[] isRepeat1 = even(STATES);
    private final short[] isRepeat2 = even(STATES);
    private final short[] isRepeat0Long = even(STATES << 4);
    private final short[][] slots = {even(64), even(64), even(64), even(64)};
    private final short[] middle = even(115);
    private final short[] align = even(16);
    private final Lengths matchLengths = new Lengths();
    private final Lengths repeatLengths = new Lengths();

    /** Reads the header of {@code packed}, which is closed with this stream. */
    Lzma(InputStream packed) throws IOException {
        this.packed = packed;
        int properties = next();
        if (properties >= 9 * 5 * 5) {
            throw broken();
        }
        literalContext = properties % 9;
        literalPosition = properties / 9 % 5;
        position = properties / 45;
        dictionary = Math.max(number(4), 1 << 12);
        size = number(8);
        if (dictionary > LARGEST_WINDOW) {
            throw new IOException("the library in the jar needs a window of " + dictionary + " bytes to be unpacked");
        }
        window = new byte[(int) dictionary + AHEAD];
        literals = even(0x300 << (literalContext + literalPosition));
        if (next() != 0) {
            throw broken();
        }
        for (int i = 0; i < 4; i++) {
            code = code << 8 | next();
        }
    }

    @Override
    public int read() throws IOException {
        byte[] one = new byte[1];
        return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
    }

    @Override
    public int read(byte[] buffer, int offset, int length) throws IOException {
        if (length == 0) {
            return 0;
        }
        while (!ended && total - given < Math.min(length, AHEAD / 2)) {
            if (total == size) {
                ended = true;
            } else {
                symbol();
            }
        }
        int from = (int) (given % window.length);
        int count = (int) Math.min(Math.min(length, total - given), window.length - from);
        if (count == 0) {
            return -1;
        }
        System.arraycopy(window, from, buffer, offset, count);
        given += count;
        return count;
    }

    @Override
    public void close() throws IOException {
        packed.close();
    }

    /** Unpacks a byte or a match, or finds the end. */
    private void symbol() throws IOException {
        int place = (int) total & (1 << position) - 1;
        if (bit(isMatch, (state << 4) + place) == 0) {
            literal();
            state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
            return;
        }
        int length;
        if (bit(isRepeat, state) != 0) {
            if (repeated(place)) {
                state = state < 7 ? 9 : 11;
                copy(1);
                return;
            }
            length = repeatLengths.decode(place);
            state = state < 7 ? 8 : 11;
        } else {
            System.arraycopy(distances, 0, distances, 1, 3);
            length = matchLengths.decode(place);
            state = state < 7 ? 7 : 10;
            distances[0] = distance(length);
            if (distances[0] == 0xffff_ffffL) {
                ended = true;
                if (size >= 0) {
                    throw broken();
                }
                return;
            }
        }
        copy(length + 2);
    }

    /** Brings the distance that is used once more to the front; true for a match of a single byte. */
    private boolean repeated(int place) throws IOException {
        if (bit(isRepeat0, state) == 0) {
            return bit(isRepeat0Long, (state << 4) + place) == 0;
        }
        int which = bit(isRepeat1, state) == 0 ? 1 : 2 + bit(isRepeat2, state);
        long distance = distances[which];
        System.arraycopy(distances, 0, distances, 1, which);
        distances[0] = distance;
        return false;
    }

    private void literal() throws IOException {
        int previous = total == 0 ? 0 : back(0);
        int context = ((int) total & (1 << literalPosition) - 1) << literalContext | previous >> 8 - literalContext;
        int base = 0x300 * context;
        int symbol = 1;
        if (state >= 7) {
            int match = back(distances[0]);
            while (symbol < 0x100) {
                int expected = match >> 7 & 1;
                match <<= 1;
                int bit = bit(literals, base + (1 + expected << 8) + symbol);
                symbol = symbol << 1 | bit;
                if (bit != expected) {
                    break;
                }
            }
        }
        while (symbol < 0x100) {
            symbol = symbol << 1 | bit(literals, base + symbol);
        }
        put((byte) symbol);
    }

    private long distance(int length) throws IOException {
        int slot = tree(slots[Math.min(length, LENGTH_STATES - 1)], 6);
        if (slot < 4) {
            return slot;
        }
        int bits = (slot >> 1) - 1;
        long distance = (2L | slot & 1) << bits;
        if (slot < 14) {
            return distance + reverse(middle, (int) distance - slot, bits);
        }
        long direct = 0;
        for (int i = 0; i < bits - 4; i++) {
            range >>>= 1;
            code -= range;
            // All ones where the difference is negative.
            int under = code >> 31;
            code += range & under;
            direct = direct << 1 | under + 1;
            normalize();
        }
        return distance + (direct << 4) + reverse(align, 0, 4);
    }

    private void copy(int length) throws IOException {
        if (distances[0] >= total || distances[0] >= dictionary || size >= 0 && total + length > size) {
            throw broken();
        }
        int from = (int) ((total - distances[0] - 1) % window.length);
        for (int i = 0; i < length; i++) {
            put(window[from]);
            from = from + 1 == window.length ? 0 : from + 1;
        }
    }

    private int back(long distance) throws IOException {
        if (distance >= total || distance >= dictionary) {
            throw broken();
        }
        return window[(int) ((total - distance - 1) % window.length)] & 0xff;
    }

    private void put(byte value) {
        window[(int) (total % window.length)] = value;
        total++;
    }

    private int bit(short[] probabilities, int index) throws IOException {
        int probability = probabilities[index];
        int bound = (range >>> 11) * probability;
        int bit;
        if (Integer.compareUnsigned(code, bound) < 0) {
            range = bound;
            probabilities[index] = (short) (probability + (2048 - probability >> 5));
            bit = 0;
        } else {
            range -= bound;
            code -= bound;
            probabilities[index] = (short) (probability - (probability >> 5));
            bit = 1;
        }
        normalize();
        return bit;
    }

    private void normalize() throws IOException {
        if (range >>> 24 == 0) {
            range <<= 8;
            code = code << 8 | next();
        }
    }

    private int tree(short[] probabilities, int bits) throws IOException {
        int symbol = 1;
        for (int i = 0; i < bits; i++) {
            symbol = symbol << 1 | bit(probabilities, symbol);
        }
        return symbol - (1 << bits);
    }

    private int reverse(short[] probabilities, int base, int bits) throws IOException {
        int symbol = 1;
        int value = 0;
        for (int i = 0; i < bits; i++) {
            int bit = bit(probabilities, base + symbol);
            symbol = symbol << 1 | bit;
            value |= bit << i;
        }
        return value;
    }

    private long number(int bytes) throws IOException {
        long number = 0;
        for (int i = 0; i < bytes; i++) {
            number |= (long) next() << 8 * i;
        }
        return number;
    }

    private int next() throws IOException {
        if (inputAt == inputEnd) {
            inputEnd = packed.read(input);
            inputAt = 0;
            if (inputEnd <= 0) {
                inputEnd = 0;
                throw new EOFException("the library in the jar is cut off");
            }
        }
        return input[inputAt++] & 0xff;
    }

    private static IOException broken() {
        return new IOException("the library in the jar is damaged");
    }

    private static short[] even(int count) {
        short[] probabilities = new short[count];
        Arrays.fill(probabilities, (short) 1024);
        return probabilities;
    }

    /** Lengths of matches, less two. */
    private final class Lengths {
        private final short[] choice = even(2);
        private final short[][] low = new short[16][];
        private final short[][] middling = new short[16][];
        private final short[] high = even(256);

        Lengths() {
            for (int i = 0; i < 16; i++) {
                low[i] = even(8);
                middling[i] = even(8);
            }
        }

        int decode(int place) throws IOException {
            if (bit(choice, 0) == 0) {
                return tree(low[place], 3);
            }
            return bit(choice, 1) == 0 ? 8 + tree(middling[place], 3) : 16 + tree(high, 8);
        }
    }
}
