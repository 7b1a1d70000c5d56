package qupath.lib.objects.classes;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** A class of objects; one instance for each name. */
public class PathClass {
    private static final Map<String, PathClass> ALL = new ConcurrentHashMap<>();
    private final String name;

    private PathClass(String name) {
        this.name = name;
    }

    public static PathClass fromString(String name) {
        return ALL.computeIfAbsent(name, PathClass::new);
    }

    @Override
    public String toString() {
        return name;
    }
}
