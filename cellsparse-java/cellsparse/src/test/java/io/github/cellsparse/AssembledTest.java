package io.github.cellsparse;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class AssembledTest {
    private static final Map<String, String> JAR = Map.of("/b", "bbb", "/c", "c", "/none", "");

    private static InputStream stream(String text) {
        return new ByteArrayInputStream(text.getBytes(StandardCharsets.UTF_8));
    }

    private static Assembled open(String rest, String... list) throws IOException {
        return new Assembled(stream(rest), List.of(list), name -> JAR.containsKey(name) ? stream(JAR.get(name)) : null);
    }

    /** Read whole, and byte by byte. */
    private static void check(String wanted, String rest, String... list) throws IOException {
        try (Assembled whole = open(rest, list)) {
            assertEquals(wanted, new String(whole.readAllBytes(), StandardCharsets.UTF_8));
        }
        StringBuilder bytes = new StringBuilder();
        try (Assembled single = open(rest, list)) {
            for (int next = single.read(); next >= 0; next = single.read()) {
                bytes.append((char) next);
            }
        }
        assertEquals(wanted, bytes.toString());
    }

    @Test
    void partsAreReadWhereTheyBelong() throws IOException {
        check("aaa", "aaa");
        check("", "");
        check("aabbba", "aaa", "2 /b");
        check("bbbcaaa", "aaa", "0 /b", "3 /c");
        check("aaabbb", "aaa", "3 /b");
        check("aabbbac", "aaa", "2 /b", "6 /c");
        check("aaa", "aaa", "1 /none");
    }

    @Test
    void aJarThatIsNotWholeIsSaidToBe() throws IOException {
        for (String line : List.of("2 /missing", "9 /b", "x /b", "/b", "", "-1 /b")) {
            assertThrows(IOException.class, () -> open("aaa", line).readAllBytes(), line);
        }
        // The second place lies within the first part.
        assertThrows(IOException.class, () -> open("aaa", "1 /b", "2 /c").readAllBytes());
    }

    @Test
    void theJarHasItsLicences() throws IOException {
        for (String name : List.of("LICENSE-MIT", "LICENSE-APACHE", "THIRD_PARTY.txt")) {
            try (InputStream file = AssembledTest.class.getResourceAsStream("/META-INF/" + name)) {
                assertNotNull(file, name);
                assertTrue(file.readAllBytes().length > 1000, name);
            }
        }
    }
}
