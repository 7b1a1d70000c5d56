package io.github.cellsparse;

import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;

/**
 * A file of the jar of which some parts lie in files of their own.
 *
 * <p>The libraries of all platforms hold the same starting weights, which cannot be compressed. A jar with several libraries has them
 * once: each library is packed without them, and beside it lies a list of the places where they belong, one in a line: how many bytes of
 * the whole file come before it, a space, and the name of the resource. Nothing is kept in memory.
 */
final class Assembled extends InputStream {
    /** Opens a resource of the jar; null if there is none. */
    interface Opener {
        InputStream open(String resource) throws IOException;
    }

    private final InputStream rest;
    private final Opener opener;
    private final Deque<Part> parts = new ArrayDeque<>();
    private long position;
    private InputStream part;

    private record Part(long position, String resource) {}

    /**
     * Reads the file from its beginning.
     *
     * @param rest the file without its parts; closed with this stream
     * @param list the lines of the list, by increasing position
     */
    Assembled(InputStream rest, List<String> list, Opener opener) throws IOException {
        this.rest = rest;
        this.opener = opener;
        for (String line : list) {
            int space = line.indexOf(' ');
            try {
                parts.add(new Part(Long.parseLong(line.substring(0, Math.max(space, 0))), line.substring(space + 1)));
            } catch (NumberFormatException error) {
                throw new IOException("the list of parts in the jar has the line '" + line + "'", error);
            }
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
        while (true) {
            Part next = parts.peek();
            if (part == null && next != null && next.position == position) {
                part = opener.open(parts.remove().resource);
                if (part == null) {
                    throw new IOException("the jar has no " + next.resource);
                }
            }
            int read;
            if (part != null) {
                read = part.read(buffer, offset, length);
                if (read < 0) {
                    part.close();
                    part = null;
                    continue;
                }
            } else {
                int wanted = next == null ? length : (int) Math.min(length, next.position - position);
                read = wanted < 0 ? -1 : rest.read(buffer, offset, wanted);
                if (read < 0 && next != null) {
                    throw new IOException("the library in the jar is shorter than its list of parts says");
                }
            }
            if (read > 0) {
                position += read;
            }
            return read;
        }
    }

    @Override
    public void close() throws IOException {
        try {
            if (part != null) {
                part.close();
            }
        } finally {
            rest.close();
        }
    }
}
