package io.github.cellsparse.qupath.work;

import java.awt.image.BufferedImage;
import java.awt.image.DataBuffer;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * The pictures of one request. A server takes PNG files, and one pair of lists for all of them: the samples that mean the
 * intensities 0 and 1, channel by channel.
 */
record Pictures(List<byte[]> files, float[] low, float[] high) {
    /** Largest sample of a file of 16 bits. */
    private static final float DEEPEST = 65535;

    /**
     * A picture that is to be sent.
     *
     * @param bits 8 or 16 if the samples are what such a file holds, and 0 if they are of another type
     */
    record Raw(Samples samples, Intensities intensities, int bits) {
        static Raw of(BufferedImage picture, int[] channels, Intensities intensities) throws Failure {
            if (channels.length != 1 && channels.length != 3) {
                throw new Failure("a server takes images of one channel or three; " + channels.length
                        + " are chosen. Choose one or three channels in the settings, or work without a server");
            }
            int type = picture.getSampleModel().getDataType();
            int bits = picture.getSampleModel().getSampleSize(0);
            boolean whole = type == DataBuffer.TYPE_BYTE || type == DataBuffer.TYPE_USHORT
                    || type == DataBuffer.TYPE_INT && bits <= 16;
            return new Raw(Samples.of(picture, channels), intensities, !whole ? 0 : bits <= 8 ? 8 : 16);
        }

        private boolean isScaledAs(Raw other) {
            return Arrays.equals(intensities.low(), other.intensities.low())
                    && Arrays.equals(intensities.high(), other.intensities.high());
        }
    }

    /** Samples are sent as they are, if all files can hold them and they mean the same everywhere. */
    static Pictures of(List<Raw> pictures) throws IOException, Failure {
        Raw first = pictures.get(0);
        for (Raw picture : pictures) {
            if (picture.bits == 0 || !picture.isScaledAs(first)) {
                return stretched(pictures);
            }
        }
        List<byte[]> files = new ArrayList<>();
        for (Raw picture : pictures) {
            files.add(Png.samples(picture.samples, picture.bits > 8));
        }
        return new Pictures(files, first.intensities.low(), first.intensities.high());
    }

    /** The intensities of all pictures, spread over 16 bits alike. Consumes the samples. */
    private static Pictures stretched(List<Raw> pictures) throws IOException, Failure {
        float least = Float.POSITIVE_INFINITY;
        float most = Float.NEGATIVE_INFINITY;
        for (Raw picture : pictures) {
            for (float value : picture.intensities.apply(picture.samples).values()) {
                if (!Float.isFinite(value)) {
                    throw new Failure("the image has values that are not numbers; choose other channels");
                }
                least = Math.min(least, value);
                most = Math.max(most, value);
            }
        }
        float scale = most > least ? DEEPEST / (most - least) : 1;
        List<byte[]> files = new ArrayList<>();
        for (Raw picture : pictures) {
            float[] values = picture.samples.values();
            for (int i = 0; i < values.length; i++) {
                values[i] = Math.round((values[i] - least) * scale);
            }
            files.add(Png.samples(picture.samples, true));
        }
        float[] low = new float[pictures.get(0).samples.channels()];
        float[] high = new float[low.length];
        Arrays.fill(low, -least * scale);
        Arrays.fill(high, (1 - least) * scale);
        return new Pictures(files, low, high);
    }
}
