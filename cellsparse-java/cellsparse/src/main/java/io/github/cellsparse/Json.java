package io.github.cellsparse;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The little JSON that passes between Java and the native library: options there, information back.
 *
 * <p>Objects are {@link Map}s in their order, arrays {@link List}s, numbers {@link Double}s, and null is null.
 */
final class Json {
    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /** An object of maps, lists, strings, numbers, booleans and null. */
    static String write(Map<String, ?> object) {
        StringBuilder out = new StringBuilder();
        write(object, out);
        return out.toString();
    }

    /** An array of what objects may hold. */
    static String write(List<?> array) {
        StringBuilder out = new StringBuilder();
        write(array, out);
        return out.toString();
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> parseObject(String text) {
        return (Map<String, Object>) new Json(text).whole();
    }

    @SuppressWarnings("unchecked")
    static List<Object> parseArray(String text) {
        return (List<Object>) new Json(text).whole();
    }

    /** The elements of an array as texts. */
    static List<String> texts(Object array) {
        List<String> texts = new ArrayList<>();
        if (array instanceof List) {
            ((List<?>) array).forEach(element -> texts.add(String.valueOf(element)));
        }
        return List.copyOf(texts);
    }

    private static void write(Object value, StringBuilder out) {
        if (value instanceof Map) {
            out.append('{');
            String separator = "";
            for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
                out.append(separator);
                writeText(String.valueOf(entry.getKey()), out);
                out.append(':');
                write(entry.getValue(), out);
                separator = ",";
            }
            out.append('}');
        } else if (value instanceof Iterable) {
            out.append('[');
            String separator = "";
            for (Object element : (Iterable<?>) value) {
                out.append(separator);
                write(element, out);
                separator = ",";
            }
            out.append(']');
        } else if (value instanceof Number) {
            double number = ((Number) value).doubleValue();
            if (Double.isNaN(number) || Double.isInfinite(number)) {
                throw new CellsparseException.Config("an option is " + value + "; give a finite number");
            }
            out.append(value);
        } else if (value == null || value instanceof Boolean) {
            out.append(value);
        } else {
            writeText(value.toString(), out);
        }
    }

    private static void writeText(String text, StringBuilder out) {
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < 0x20) {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }

    private Object whole() {
        Object value = value();
        skipSpace();
        if (at != text.length()) {
            throw broken("the end");
        }
        return value;
    }

    private Object value() {
        skipSpace();
        if (take('{')) {
            Map<String, Object> object = new LinkedHashMap<>();
            skipSpace();
            while (!take('}')) {
                if (!object.isEmpty()) {
                    expect(',');
                }
                skipSpace();
                String name = string();
                skipSpace();
                expect(':');
                object.put(name, value());
                skipSpace();
            }
            return Collections.unmodifiableMap(object);
        }
        if (take('[')) {
            List<Object> array = new ArrayList<>();
            skipSpace();
            while (!take(']')) {
                if (!array.isEmpty()) {
                    expect(',');
                }
                array.add(value());
                skipSpace();
            }
            return Collections.unmodifiableList(array);
        }
        if (at < text.length() && text.charAt(at) == '"') {
            return string();
        }
        for (Object constant : new Object[] {true, false, null}) {
            if (text.startsWith(String.valueOf(constant), at)) {
                at += String.valueOf(constant).length();
                return constant;
            }
        }
        int begin = at;
        while (at < text.length() && "+-.eE0123456789".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
        try {
            return Double.valueOf(text.substring(begin, at));
        } catch (NumberFormatException error) {
            throw broken("a value");
        }
    }

    private String string() {
        expect('"');
        StringBuilder out = new StringBuilder();
        while (!take('"')) {
            char c = next();
            if (c != '\\') {
                out.append(c);
                continue;
            }
            char escaped = next();
            int simple = "\"\\/bfnrt".indexOf(escaped);
            if (simple >= 0) {
                out.append("\"\\/\b\f\n\r\t".charAt(simple));
            } else if (escaped == 'u' && at + 4 <= text.length()) {
                out.append((char) Integer.parseInt(text.substring(at, at + 4), 16));
                at += 4;
            } else {
                throw broken("an escape");
            }
        }
        return out.toString();
    }

    private void skipSpace() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private boolean take(char c) {
        boolean found = at < text.length() && text.charAt(at) == c;
        at += found ? 1 : 0;
        return found;
    }

    private void expect(char c) {
        if (!take(c)) {
            throw broken("'" + c + "'");
        }
    }

    private char next() {
        if (at >= text.length()) {
            throw broken("more");
        }
        return text.charAt(at++);
    }

    private CellsparseException.Internal broken(String expected) {
        return new CellsparseException.Internal("JSON of the library: expected " + expected + " at character " + at);
    }
}
