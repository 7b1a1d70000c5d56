package io.github.cellsparse.qupath.work;

import io.github.cellsparse.Image;
import io.github.cellsparse.RegionSource;
import java.awt.Rectangle;
import java.io.IOException;

/** A slide at one resolution as the library reads it part by part: the chosen channels, scaled alike everywhere. */
final class SlideSource implements RegionSource {
    private final Slide slide;
    private final double downsample;
    private final int[] channels;
    private final Intensities intensities;

    SlideSource(Slide slide, double downsample, int[] channels, Intensities intensities) {
        this.slide = slide;
        this.downsample = downsample;
        this.channels = channels;
        this.intensities = intensities;
    }

    @Override
    public int height() {
        return reduced(slide.height());
    }

    @Override
    public int width() {
        return reduced(slide.width());
    }

    @Override
    public int channels() {
        return channels.length;
    }

    @Override
    public Image.SampleType type() {
        return Image.SampleType.FLOAT32;
    }

    @Override
    public Image read(int top, int left, int height, int width) throws IOException {
        int x = full(left, slide.width());
        int y = full(top, slide.height());
        Rectangle area = new Rectangle(
                x, y, Math.max(1, full(left + width, slide.width()) - x), Math.max(1, full(top + height, slide.height()) - y));
        try {
            Samples samples = Samples.of(Part.read(slide, area, downsample).picture(), channels);
            return intensities.apply(samples.resized(height, width)).image();
        } catch (Failure failure) {
            throw new IOException(failure.getMessage(), failure);
        }
    }

    /** Pixels of this resolution along a side of the slide. */
    private int reduced(int length) {
        return Math.max(1, (int) Math.ceil(length / downsample - 1e-9));
    }

    /** The pixel of full resolution where one of this resolution begins. */
    private int full(int pixel, int length) {
        return pixel >= reduced(length) ? length : (int) Math.min(length - 1, Math.round(pixel * downsample));
    }
}
