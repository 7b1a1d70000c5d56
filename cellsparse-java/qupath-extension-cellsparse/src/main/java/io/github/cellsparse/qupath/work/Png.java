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

    /** Samples that are whole numbers, of 8 or of 16 bits. */
    static byte[] samples(Samples samples, boolean deep) throws IOException {
        WritableRaster raster = Raster.createInterleavedRaster(deep ? DataBuffer.TYPE_USHORT : DataBuffer.TYPE_BYTE,
                samples.width(), samples.height(), samples.channels(), null);
        float[] row = new float[samples.width() * samples.channels()];
        for (int y = 0; y < samples.height(); y++) {
            System.arraycopy(samples.values(), y * row.length, row, 0, row.length);
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
