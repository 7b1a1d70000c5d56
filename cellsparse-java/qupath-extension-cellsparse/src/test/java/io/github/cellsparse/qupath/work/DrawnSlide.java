package io.github.cellsparse.qupath.work;

import io.github.cellsparse.Polygon;
import java.awt.Shape;
import java.awt.geom.Ellipse2D;
import java.awt.image.BufferedImage;
import java.awt.image.DataBuffer;
import java.awt.image.Raster;
import java.awt.image.WritableRaster;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/** A synthetic slide: bright discs on a dark, noisy ground, read as an image server would. */
public class DrawnSlide implements Slide {
    private final int width;
    private final int height;
    private final int channels;
    private final int type;
    private final float[] values;
    private final List<Ellipse2D> discs = new ArrayList<>();
    private double pixelSize = Double.NaN;
    private int reads;
    private long largest;

    /** A dark slide of {@code channels} channels of a type of {@link DataBuffer}. */
    public DrawnSlide(int width, int height, int channels, int type) {
        this.width = width;
        this.height = height;
        this.channels = channels;
        this.type = type;
        values = new float[width * height];
        Random random = new Random(7);
        for (int i = 0; i < values.length; i++) {
            values[i] = 20 + random.nextInt(10);
        }
    }

    /** Adds a disc with its bounding box. */
    public DrawnSlide disc(double x, double y, double size) {
        Ellipse2D disc = new Ellipse2D.Double(x, y, size, size);
        discs.add(disc);
        fill(disc, 180);
        return this;
    }

    /** Adds a grid of discs. */
    public DrawnSlide grid(int step, int size) {
        for (int y = step / 2; y + size < height - 4; y += step) {
            for (int x = step / 2; x + size < width - 4; x += step) {
                disc(x, y, size);
            }
        }
        return this;
    }

    DrawnSlide fill(Shape shape, float value) {
        java.awt.Rectangle box = shape.getBounds().intersection(new java.awt.Rectangle(width, height));
        for (int y = box.y; y < box.y + box.height; y++) {
            for (int x = box.x; x < box.x + box.width; x++) {
                if (shape.contains(x + 0.5, y + 0.5)) {
                    values[y * width + x] += value;
                }
            }
        }
        return this;
    }

    DrawnSlide pixelSize(double micrometres) {
        pixelSize = micrometres;
        return this;
    }

    /** The discs. */
    public List<Ellipse2D> discs() {
        return discs;
    }

    /** The first discs as cells, each with background around it. */
    public List<Drawing> drawings(int count) {
        List<Drawing> drawings = new ArrayList<>();
        for (Ellipse2D disc : discs.subList(0, count)) {
            drawings.add(new Drawing(Polygon.Kind.FOREGROUND, Drawing.Form.AREA, disc));
            drawings.add(new Drawing(Polygon.Kind.BACKGROUND, Drawing.Form.AREA, new Ellipse2D.Double(
                    disc.getX() - 5, disc.getY() - 5, disc.getWidth() + 10, disc.getHeight() + 10)));
        }
        return drawings;
    }

    Subject subject(int count) {
        List<Drawing> drawings = drawings(count);
        return new Subject() {
            @Override
            public String name() {
                return DrawnSlide.this.name();
            }

            @Override
            public List<Drawing> drawings() {
                return drawings;
            }

            @Override
            public Slide open() {
                return DrawnSlide.this;
            }
        };
    }

    int reads() {
        return reads;
    }

    /** Most pixels that were read at a time. */
    long largest() {
        return largest;
    }

    @Override
    public String name() {
        return "drawn";
    }

    @Override
    public int width() {
        return width;
    }

    @Override
    public int height() {
        return height;
    }

    @Override
    public int channels() {
        return channels;
    }

    @Override
    public boolean isRgb() {
        return channels == 3 && type == DataBuffer.TYPE_BYTE;
    }

    @Override
    public double pixelSize() {
        return pixelSize;
    }

    @Override
    public BufferedImage read(double downsample, int x, int y, int w, int h) {
        int columns = (int) Math.max(1, Math.round(w / downsample));
        int rows = (int) Math.max(1, Math.round(h / downsample));
        reads++;
        largest = Math.max(largest, (long) columns * rows);
        WritableRaster raster = type == DataBuffer.TYPE_FLOAT
                ? Raster.createWritableRaster(
                        new java.awt.image.BandedSampleModel(type, columns, rows, channels), null)
                : Raster.createInterleavedRaster(type, columns, rows, channels, null);
        for (int row = 0; row < rows; row++) {
            for (int column = 0; column < columns; column++) {
                int atX = x + (int) ((column + 0.5) * w / columns);
                int atY = y + (int) ((row + 0.5) * h / rows);
                for (int channel = 0; channel < channels; channel++) {
                    float value = values[atY * width + atX] - 5 * channel;
                    raster.setSample(column, row, channel, type == DataBuffer.TYPE_USHORT ? value * 50 : value);
                }
            }
        }
        var colors = new java.awt.image.ComponentColorModel(
                java.awt.color.ColorSpace.getInstance(
                        channels == 1 ? java.awt.color.ColorSpace.CS_GRAY : java.awt.color.ColorSpace.CS_sRGB),
                false, false, java.awt.Transparency.OPAQUE, type);
        return channels == 1 || channels == 3
                ? new BufferedImage(colors, raster, false, null)
                : new BufferedImage(new Colorless(type, channels), raster, false, null);
    }

    /** The colours of a raster of any number of channels, which nobody asks for. */
    private static final class Colorless extends java.awt.image.ColorModel {
        Colorless(int type, int channels) {
            super(8 * channels, sizes(channels), java.awt.color.ColorSpace.getInstance(java.awt.color.ColorSpace.CS_sRGB),
                    false, false, java.awt.Transparency.OPAQUE, type);
        }

        private static int[] sizes(int channels) {
            int[] sizes = new int[Math.max(3, channels)];
            java.util.Arrays.fill(sizes, 8);
            return sizes;
        }

        @Override
        public boolean isCompatibleRaster(Raster raster) {
            return true;
        }

        @Override
        public int getRed(int pixel) {
            return 0;
        }

        @Override
        public int getGreen(int pixel) {
            return 0;
        }

        @Override
        public int getBlue(int pixel) {
            return 0;
        }

        @Override
        public int getAlpha(int pixel) {
            return 255;
        }
    }
}
