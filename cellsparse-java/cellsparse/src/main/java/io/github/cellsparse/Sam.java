package io.github.cellsparse;

import java.awt.Rectangle;
import java.lang.ref.Reference;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/**
 * Click to outline: objects from points and boxes by the Segment Anything Model (SAM) or MobileSAM, with weights that the user has.
 * None are in the library and none are downloaded.
 *
 * <p>An image takes seconds when it is first given; what was seen in the last images is kept, so that further objects of them take a
 * fraction of a second. Safe for use by many threads. Close it to free its memory early.
 */
public final class Sam implements AutoCloseable {
    private final Handle handle;
    private final String kind;
    private final int size;

    private Sam(long token) {
        handle = new Handle(this, "network of SAM", token, Native::samFree);
        Map<String, Object> info = Json.parseObject(Native.samInfo(token));
        kind = String.valueOf(info.get("kind"));
        size = ((Number) info.get("size")).intValue();
    }

    /**
     * A network from a file of weights: {@code sam_vit_b_01ec64.pth} and its larger ones from
     * https://github.com/facebookresearch/segment-anything#model-checkpoints, {@code weights/mobile_sam.pt} from
     * https://github.com/ChaoningZhang/MobileSAM, or the same arrays as safetensors. Nothing in it is executed.
     *
     * @throws CellsparseException.File if there is no such file, or it is damaged or of another network
     * @throws CellsparseException.Device if the native library is built without SAM
     * @throws UnsupportedOperationException for a path that is not of the default file system
     */
    public static Sam load(Path path) {
        return load(path, "auto");
    }

    /**
     * A network on a device.
     *
     * @param device {@code auto} or one of {@link Cellsparse#devices}
     * @throws CellsparseException as {@link #load(Path)}, and if the device is absent
     */
    public static Sam load(Path path, String device) {
        NativeLibrary.require();
        return new Sam(Native.samLoad(Model.fileName(path), Json.write(Map.of("device", device))));
    }

    /** {@code vit_b}, {@code vit_l}, {@code vit_h}, {@code vit_t} (MobileSAM) or {@code other}. */
    public String kind() {
        return kind;
    }

    /** Pixels along what the network sees of an image: 1024, but for networks of other sizes. */
    public int size() {
        return size;
    }

    /**
     * The part of an image to give to {@link #masks}, so that what one looks at is seen about as fine as the network sees: a small
     * image whole, of a larger one a square around the view. Views near each other lead to the same part, which is looked at once.
     *
     * @param view what one looks at; what lies outside the image does not count
     */
    public Rectangle part(int height, int width, Rectangle view, SamPrompt prompt) {
        Rectangle seen = view.intersection(new Rectangle(width, height));
        int[] part;
        try {
            part = Native.samPart(handle.token(), height, width, new int[] {Math.max(0, seen.y), Math.max(0, seen.x),
                Math.max(0, seen.height), Math.max(0, seen.width)}, SamPrompt.json(List.of(prompt)));
        } finally {
            Reference.reachabilityFence(this);
        }
        return new Rectangle(part[1], part[0], part[3], part[2]);
    }

    /**
     * The objects that prompts point at: object {@code i + 1} is that of prompt {@code i}, without specks beside it and without holes,
     * and absent where nothing was found. Its probability is the overlap with the object that the network estimates.
     *
     * @param image 1 to 3 channels; its longer side is reduced to {@link #size}
     * @param cancel stops the look at an image from another thread; may be null
     * @throws CellsparseException.Config if a prompt lies outside the image
     * @throws CellsparseException.Image if the image is unusable
     * @throws CellsparseException.Cancelled if the token stopped it
     */
    public Segmentation masks(Image image, List<SamPrompt> prompts, CancelToken cancel) {
        long raised = Native.cancelNew();
        if (cancel != null) {
            cancel.attach(raised);
        }
        try {
            return new Segmentation(Native.samMasks(handle.token(), image.data(), image.direct, image.type.dtype,
                    image.offset, image.height, image.width, image.channels, image.rowStride, image.columnStride,
                    image.channelStride, SamPrompt.json(prompts), "{}", raised));
        } finally {
            if (cancel != null) {
                cancel.detach(raised);
            }
            Native.cancelFree(raised);
            Reference.reachabilityFence(this);
        }
    }

    /** Frees native memory. Closing again does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
