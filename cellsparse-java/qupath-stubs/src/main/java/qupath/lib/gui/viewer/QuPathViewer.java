package qupath.lib.gui.viewer;

import java.awt.image.BufferedImage;
import qupath.lib.images.ImageData;

/** A view of an image. */
public class QuPathViewer {
    public ImageData<BufferedImage> getImageData() {
        throw new UnsupportedOperationException();
    }

    public int getZPosition() {
        throw new UnsupportedOperationException();
    }

    public int getTPosition() {
        throw new UnsupportedOperationException();
    }
}
