package io.github.cellsparse;

import java.lang.ref.Reference;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * Images with their sparse labels, copied into the native library. Any number of trainings may use one data set at a time.
 * Close it to free its memory early; it is freed with the object otherwise.
 */
public final class Dataset implements AutoCloseable {
    private final Handle handle;

    /** An empty data set. */
    public Dataset() {
        NativeLibrary.require();
        handle = new Handle(this, "data set", Native.datasetNew(), Native::datasetFree);
    }

    /**
     * Adds a copy of an image with its labels. All images have the same number of channels. After a failure the data set is
     * as it was.
     *
     * @return this data set
     * @throws CellsparseException.Image if the image is unusable
     * @throws CellsparseException.Labels if the labels are unusable or do not fit the image
     */
    public Dataset add(Image image, Labels labels) {
        try {
            long token = handle.token();
            if (labels.polygons != null) {
                Polygon.Flat flat = new Polygon.Flat(labels.polygons);
                Native.datasetAddPolygons(token, image.data(), image.direct, image.type.dtype, image.offset, image.height,
                        image.width, image.channels, image.rowStride, image.columnStride, image.channelStride, flat.points,
                        flat.ringLengths, flat.ringCounts, flat.kinds);
            } else {
                Native.datasetAdd(token, image.data(), image.direct, image.type.dtype, image.offset, image.height,
                        image.width, image.channels, image.rowStride, image.columnStride, image.channelStride,
                        labels.values, labels.encoding.code, labels.height, labels.width);
            }
            return this;
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Says of which class, from 1, objects of image {@code index} are, by their id; for StarDist networks with classes.
     *
     * @throws CellsparseException.Labels if there is no such object
     */
    public void setClasses(int index, Map<Integer, Integer> classes) {
        try {
            int[] ids = classes.keySet().stream().mapToInt(Integer::intValue).toArray();
            int[] values = new int[ids.length];
            for (int i = 0; i < ids.length; i++) {
                values[i] = classes.get(ids[i]);
            }
            Native.datasetSetClasses(handle.token(), index, ids, values);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Says how large the pixels of image {@code index} are, in micrometres. A training brings images of different pixel sizes
     * to one.
     *
     * @throws IllegalArgumentException if there is no such image, or a side is not above 0
     */
    public void setPixelSize(int index, double height, double width) {
        try {
            Native.datasetSetPixelSize(handle.token(), index, height, width);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Tries every algorithm on the drawn cells, each after a short training on half of them, and tells which one found the
     * others best.
     *
     * @param options of the training to come; of its time budget at most three tenths are taken
     * @throws CellsparseException.Cancelled if its token stopped it
     */
    public AlgorithmChoice chooseAlgorithm(TrainOptions options) {
        long cancel = Native.cancelNew();
        try {
            if (options.cancel != null) {
                options.cancel.attach(cancel);
            }
            return AlgorithmChoice.of(Json.parseObject(Native.chooseAlgorithm(handle.token(), options.json(), cancel)));
        } finally {
            if (options.cancel != null) {
                options.cancel.detach(cancel);
            }
            Native.cancelFree(cancel);
            Reference.reachabilityFence(this);
        }
    }

    /** The number of images. */
    public int size() {
        try {
            return Native.datasetSize(handle.token());
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /** What would make the annotations more useful: sentences for the annotator, none when there is nothing to say. */
    public List<String> advice() {
        try {
            return Json.parseArray(Native.datasetAdvice(handle.token())).stream()
                    .map(String::valueOf)
                    .collect(Collectors.toUnmodifiableList());
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    long token() {
        return handle.token();
    }

    /** Frees the data set; a training that uses it goes on. Closing again does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
