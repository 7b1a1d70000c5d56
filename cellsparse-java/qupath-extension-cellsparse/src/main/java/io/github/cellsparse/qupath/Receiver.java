package io.github.cellsparse.qupath;

import java.awt.image.BufferedImage;
import java.util.function.Consumer;
import qupath.lib.images.ImageData;

/** Takes what a run made of an image: objects, and steps of its history. */
interface Receiver {
    /** Changes the image; returns when that is done. */
    void change(Consumer<ImageData<BufferedImage>> change);

    /** The image as a script has it, on the thread of the script. */
    static Receiver of(ImageData<BufferedImage> imageData) {
        return change -> change.accept(imageData);
    }
}
