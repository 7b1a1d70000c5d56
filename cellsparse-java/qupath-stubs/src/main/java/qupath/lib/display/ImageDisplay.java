package qupath.lib.display;

import java.awt.image.BufferedImage;

/** How an image is shown. */
public class ImageDisplay {
    public BufferedImage applyTransforms(BufferedImage imgInput, BufferedImage imgOutput) {
        throw new UnsupportedOperationException();
    }
}
