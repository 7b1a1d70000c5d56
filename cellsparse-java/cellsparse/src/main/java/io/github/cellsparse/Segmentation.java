package io.github.cellsparse;

import java.lang.ref.Reference;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalInt;

/**
 * What a prediction found: a label image and its objects. Close it to free native memory early; labels and objects that were
 * read before stay usable.
 */
public final class Segmentation implements AutoCloseable {
    private final Handle handle;
    private final int height;
    private final int width;

    Segmentation(long token) {
        handle = new Handle(this, "segmentation", token, Native::segmentationFree);
        int[] shape = Native.segmentationShape(token);
        height = shape[0];
        width = shape[1];
    }

    /** Rows. */
    public int height() {
        return height;
    }

    /** Columns. */
    public int width() {
        return width;
    }

    /** A copy of the label image, row by row: 0 background, otherwise the id of an object. */
    public int[] labels() {
        try {
            return Native.segmentationLabels(handle.token());
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /** The number of objects. */
    public int objectCount() {
        try {
            return Native.segmentationObjectCount(handle.token());
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /** The objects that own at least one pixel, in increasing id. */
    public List<SegmentedObject> objects() {
        try {
            long token = handle.token();
            int count = Native.segmentationObjectCount(token);
            List<SegmentedObject> objects = new ArrayList<>(count);
            double[] values = new double[3];
            for (int i = 0; i < count; i++) {
                Native.segmentationObject(token, i, values);
                OptionalInt objectClass = values[2] < 0 ? OptionalInt.empty() : OptionalInt.of((int) values[2]);
                double[] polygon = Native.segmentationPolygon(token, i);
                objects.add(new SegmentedObject((int) values[0], (float) values[1], objectClass, polygon));
            }
            return List.copyOf(objects);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /** The outlines of the objects' pixels, in increasing id. */
    public List<Outline> outlines(OutlineOptions options) {
        try {
            return Outline.take(Native.segmentationOutlines(handle.token(), options.json()));
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /** The outlines as a JSON array of GeoJSON features that QuPath reads, with probabilities and classes. */
    public String toGeoJson(OutlineOptions options) {
        try {
            return Native.segmentationGeojson(handle.token(), options.json());
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * What a user should know of the result: why nothing was found, why it is likely bad, that the image was seen scaled; none
     * when there is nothing to say.
     */
    public List<String> notes() {
        try {
            return Json.texts(Json.parseArray(Native.segmentationNotes(handle.token())));
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /** Frees native memory. Closing again does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
