package io.github.cellsparse;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.reflect.Member;
import java.lang.reflect.Modifier;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;

/**
 * Classes and methods that programs use stay: those of the first release are written down in {@code surface.txt}, and none goes
 * or changes. With CELLSPARSE_WRITE_SURFACE=1 the test writes down what was added.
 */
class SurfaceTest {
    private static final Path FILE = Path.of("src/test/resources/surface.txt");

    @Test
    void publicMembersStay() throws Exception {
        TreeSet<String> now = surface();
        assertTrue(now.size() > 100, now.toString());
        TreeSet<String> recorded = new TreeSet<>();
        if (Files.exists(FILE)) {
            recorded.addAll(Files.readAllLines(FILE));
        }
        TreeSet<String> gone = new TreeSet<>(recorded);
        gone.removeAll(now);
        assertEquals(List.of(), List.copyOf(gone), "programs use these");
        if (System.getenv("CELLSPARSE_WRITE_SURFACE") != null) {
            Files.createDirectories(FILE.getParent());
            Files.write(FILE, now);
        } else {
            now.removeAll(recorded);
            assertEquals(List.of(), List.copyOf(now), "write these down with CELLSPARSE_WRITE_SURFACE=1");
        }
    }

    private static TreeSet<String> surface() throws IOException, ClassNotFoundException {
        TreeSet<String> lines = new TreeSet<>();
        Path classes = Path.of("target/classes/io/github/cellsparse");
        try (DirectoryStream<Path> files = Files.newDirectoryStream(classes, "*.class")) {
            for (Path file : files) {
                String name = file.getFileName().toString().replace(".class", "");
                if (!name.equals("package-info")) {
                    describe(Class.forName("io.github.cellsparse." + name, false, SurfaceTest.class.getClassLoader()), lines);
                }
            }
        }
        return lines;
    }

    private static void describe(Class<?> type, TreeSet<String> lines) {
        for (Class<?> outer = type; outer != null; outer = outer.getDeclaringClass()) {
            if (!Modifier.isPublic(outer.getModifiers())) {
                return;
            }
        }
        lines.add(type.toGenericString());
        for (Member[] members : List.of(type.getDeclaredConstructors(), type.getDeclaredMethods(), type.getDeclaredFields())) {
            for (Member member : members) {
                if (isOpen(member)) {
                    lines.add(member.toString());
                }
            }
        }
    }

    private static boolean isOpen(Member member) {
        int modifiers = member.getModifiers();
        return (Modifier.isPublic(modifiers) || Modifier.isProtected(modifiers)) && !member.isSynthetic();
    }
}
