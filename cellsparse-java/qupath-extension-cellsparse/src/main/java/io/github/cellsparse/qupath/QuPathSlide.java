package io.github.cellsparse.qupath;

import io.github.cellsparse.qupath.work.Slide;
import java.awt.image.BufferedImage;
import java.io.IOException;
import qupath.lib.images.servers.ImageServer;

/** One plane of an image of QuPath. */
final class QuPathSlide implements Slide {
    private final ImageServer<BufferedImage> server;
    private final int z;
    private final int t;
    private final boolean owned;

    /** A plane of an open image; {@code owned} says that closing the slide closes the image. */
    QuPathSlide(ImageServer<BufferedImage> server, int z, int t, boolean owned) {
        this.server = server;
        this.z = z;
        this.t = t;
        this.owned = owned;
    }

    @Override
    public String name() {
        return server.getMetadata().getName();
    }

    @Override
    public int width() {
        return server.getWidth();
    }

    @Override
    public int height() {
        return server.getHeight();
    }

    @Override
    public int channels() {
        return server.nChannels();
    }

    @Override
    public boolean isRgb() {
        return server.isRGB();
    }

    @Override
    public double pixelSize() {
        return server.getPixelCalibration().hasPixelSizeMicrons()
                ? server.getPixelCalibration().getAveragedPixelSizeMicrons()
                : Double.NaN;
    }

    @Override
    public BufferedImage read(double downsample, int x, int y, int width, int height) throws IOException {
        return server.readRegion(downsample, x, y, width, height, z, t);
    }

    @Override
    public void close() throws IOException {
        if (owned) {
            try {
                server.close();
            } catch (IOException error) {
                throw error;
            } catch (Exception error) {
                throw new IOException(error.getMessage(), error);
            }
        }
    }
}
