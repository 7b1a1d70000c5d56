package qupath.lib.measurements;

import java.util.HashMap;
import java.util.Map;

/** Numbers of an object by name. */
public interface MeasurementList extends AutoCloseable {
    void put(String name, double value);

    double get(String name);

    boolean containsKey(String name);

    @Override
    void close();

    /** A list that keeps single precision, as QuPath does. */
    final class OfMap implements MeasurementList {
        private final Map<String, Float> values = new HashMap<>();

        @Override
        public void put(String name, double value) {
            values.put(name, (float) value);
        }

        @Override
        public double get(String name) {
            return values.getOrDefault(name, Float.NaN);
        }

        @Override
        public boolean containsKey(String name) {
            return values.containsKey(name);
        }

        @Override
        public void close() {}
    }
}
