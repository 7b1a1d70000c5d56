package io.github.cellsparse.qupath.work;

import java.awt.Transparency;
import java.awt.color.ColorSpace;
import java.awt.image.BufferedImage;
import java.awt.image.ColorModel;
import java.awt.image.ComponentColorModel;
import java.awt.image.DataBuffer;
import java.awt.image.Raster;
import java.awt.image.WritableRaster;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import javax.imageio.ImageIO;

/** PNG files with the values that they are given: grey or RGB, 8 or 16 bit, no palette. */
final class Png {
    private Png() {}

    /** Some channels of a picture. 8 and 16 bits stay what they are; other samples are spread over 16 bits. */
    static byte[] picture(BufferedImage picture, int[] channels) throws IOException, Failure {
        if (channels.length != 1 && channels.length != 3) {
            throw new Failure("a server takes images of one channel or three; " + channels.length
                    + " are chosen. Choose one or three channels in the settings, or work without a server");
        }
        Samples samples = Samples.of(picture, channels);
        int type = picture.getSampleModel().getDataType();
        int bits = picture.getSampleModel().getSampleSize(0);
        boolean real = type == DataBuffer.TYPE_FLOAT || type == DataBuffer.TYPE_DOUBLE;
        boolean deep = type != DataBuffer.TYPE_BYTE && bits > 8;
        float low = 0;
        float scale = 1;
        if (real || type == DataBuffer.TYPE_SHORT || bits > 16) {
            float high = Float.NEGATIVE_INFINITY;
            low = Float.POSITIVE_INFINITY;
            for (float value : samples.values()) {
                if (!Float.isFinite(value)) {
                    throw new Failure("the image has values that are not numbers; choose other channels");
                }
                low = Math.min(low, value);
                high = Math.max(high, value);
            }
            scale = high > low ? 65535 / (high - low) : 1;
        }
        WritableRaster raster = Raster.createInterleavedRaster(
                deep ? DataBuffer.TYPE_USHORT : DataBuffer.TYPE_BYTE, samples.width(), samples.height(), channels.length, null);
        float[] row = new float[samples.width() * channels.length];
        for (int y = 0; y < samples.height(); y++) {
            for (int i = 0; i < row.length; i++) {
                float value = samples.values()[y * row.length + i];
                row[i] = scale == 1 && low == 0 ? value : Math.round((value - low) * scale);
            }
            raster.setPixels(0, y, samples.width(), 1, row);
        }
        return write(raster);
    }

    /** Labels as a server reads them: 0 unlabelled, 1 background, 2 and up objects. */
    static byte[] labels(LabelMap labels) throws IOException, Failure {
        WritableRaster raster =
                Raster.createInterleavedRaster(DataBuffer.TYPE_USHORT, labels.width(), labels.height(), 1, null);
        int[] row = new int[labels.width()];
        for (int y = 0; y < labels.height(); y++) {
            for (int x = 0; x < row.length; x++) {
                row[x] = labels.values()[y * row.length + x] + 1;
                if (row[x] > 65535) {
                    throw new Failure("there are more than 65,534 Foreground annotations in one region; a server takes no more");
                }
            }
            raster.setPixels(0, y, row.length, 1, row);
        }
        return write(raster);
    }

    private static byte[] write(WritableRaster raster) throws IOException {
        ColorSpace colors = ColorSpace.getInstance(raster.getNumBands() == 1 ? ColorSpace.CS_GRAY : ColorSpace.CS_sRGB);
        ColorModel model = new ComponentColorModel(
                colors, false, false, Transparency.OPAQUE, raster.getSampleModel().getDataType());
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        if (!ImageIO.write(new BufferedImage(model, raster, false, null), "png", bytes)) {
            throw new IOException("this Java has no writer for PNG files");
        }
        return bytes.toByteArray();
    }
}
