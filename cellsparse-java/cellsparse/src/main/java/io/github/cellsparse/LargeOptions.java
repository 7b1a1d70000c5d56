package io.github.cellsparse;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** How to segment an image by parts, and where results go. Immutable. */
public final class LargeOptions {
    final Map<String, Object> values;
    final CancelToken cancel;
    final RegionTarget labels;
    final LargeListener listener;

    private LargeOptions(Builder builder) {
        values = new LinkedHashMap<>(builder.predict.values);
        values.putAll(builder.values);
        values.put("outputs", new ArrayList<>(builder.outputs));
        cancel = builder.predict.cancel;
        labels = builder.labels;
        listener = builder.listener;
    }

    /** A builder with the defaults. */
    public static Builder builder() {
        return new Builder();
    }

    String json() {
        return Json.write(values);
    }

    /** Builds {@link LargeOptions}. Values out of range are refused by {@link Model#predictLarge}. */
    public static final class Builder {
        private final Map<String, Object> values = new LinkedHashMap<>();
        private final List<String> outputs = new ArrayList<>();
        private PredictOptions predict = PredictOptions.defaults();
        private RegionTarget labels;
        private LargeListener listener;

        private Builder() {}

        /** As for an image in memory. */
        public Builder predict(PredictOptions value) {
            predict = value;
            return this;
        }

        /** The resolution of a file that is segmented, 0 (default) for the largest. */
        public Builder level(int value) {
            return set("level", value);
        }

        /** The smallest resolution of a file whose pixels are not larger than so many micrometres. */
        public Builder levelOf(double micrometres) {
            return set("level", micrometres + "um");
        }

        /**
         * Keeps the objects whose middle lies in a box, {@code left,top,width,height} in pixels of the largest resolution, or in the
         * polygons of a GeoJSON text.
         */
        public Builder region(String value) {
            return set("region", value);
        }

        /** Leave out parts in which nothing as large as a cell stands out of the noise. Default true. */
        public Builder skipEmpty(boolean value) {
            return set("skip_empty", value);
        }

        /** Where finished parts are kept, for a later run that goes on from them. Default: nowhere. */
        public Builder folder(Path value) {
            return set("folder", Model.fileName(value));
        }

        /** Go on from the finished parts in the folder. Default false. */
        public Builder resume(boolean value) {
            return set("resume", value);
        }

        /** What tells the image from others; compared when a run goes on. */
        public Builder image(String value) {
            return set("image", value);
        }

        /**
         * Another file to write, by its ending: {@code .ome.tif}, {@code .tif}, {@code .zarr} labels with smaller copies; {@code
         * .geojson} outlines for QuPath, in pixels of the largest resolution; {@code .csv} measurements.
         */
        public Builder output(Path value) {
            outputs.add(Model.fileName(value));
            return this;
        }

        /** How to outline in GeoJSON. */
        public Builder outlines(OutlineOptions value) {
            values.putAll(value.values);
            return this;
        }

        /** Takes the labels. */
        public Builder labels(RegionTarget value) {
            labels = value;
            return this;
        }

        /** Watches the run. */
        public Builder listener(LargeListener value) {
            listener = value;
            return this;
        }

        /** The options. */
        public LargeOptions build() {
            return new LargeOptions(this);
        }

        private Builder set(String name, Object value) {
            values.put(name, value);
            return this;
        }
    }
}
