package qupath.lib.images.servers;

/** Sizes of pixels. */
public class PixelCalibration {
    public boolean hasPixelSizeMicrons() {
        throw new UnsupportedOperationException();
    }

    public double getAveragedPixelSizeMicrons() {
        throw new UnsupportedOperationException();
    }
}
