package qupath.lib.images.servers;

import java.io.IOException;

/** Pixels of an image. */
@SuppressWarnings("try")
public interface ImageServer<T> extends AutoCloseable {
    String getPath();

    int getWidth();

    int getHeight();

    int nChannels();

    boolean isRGB();

    PixelCalibration getPixelCalibration();

    ImageServerMetadata getMetadata();

    T readRegion(double downsample, int x, int y, int width, int height, int z, int t) throws IOException;
}
