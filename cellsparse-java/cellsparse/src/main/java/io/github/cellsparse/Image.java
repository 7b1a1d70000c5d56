package io.github.cellsparse;

import java.awt.image.BufferedImage;
import java.awt.image.ColorModel;
import java.awt.image.DataBuffer;
import java.awt.image.IndexColorModel;
import java.awt.image.Raster;
import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Objects;

/**
 * Pixels of an image: a view of an array or of a direct buffer, rows first, channel last. Nothing is copied before the
 * native library reads it, so the pixels must not change while a call works with them.
 */
public final class Image {
    /** The type of the samples. */
    public enum SampleType {
        /** 8-bit unsigned. */
        UINT8(1, 1),
        /** 16-bit unsigned. */
        UINT16(2, 2),
        /** 32-bit floating point. */
        FLOAT32(3, 4);

        final int dtype;
        final int bytes;

        SampleType(int dtype, int bytes) {
            this.dtype = dtype;
            this.bytes = bytes;
        }
    }

    final Object data;
    final boolean direct;
    final SampleType type;
    final long offset;
    final int height;
    final int width;
    final int channels;
    final long rowStride;
    final long columnStride;
    final long channelStride;

    private Image(Object data, boolean direct, SampleType type, long offset, int[] shape, long[] strides) {
        this.data = data;
        this.direct = direct;
        this.type = type;
        this.offset = offset;
        height = shape[0];
        width = shape[1];
        channels = shape[2];
        rowStride = strides[0];
        columnStride = strides[1];
        channelStride = strides[2];
    }

    /**
     * 8-bit unsigned samples.
     *
     * @throws IllegalArgumentException if the array has not {@code height * width * channels} samples
     */
    public static Image of(byte[] samples, int height, int width, int channels) {
        return ofArray(samples, samples.length, SampleType.UINT8, height, width, channels);
    }

    /**
     * 16-bit unsigned samples.
     *
     * @throws IllegalArgumentException if the array has not {@code height * width * channels} samples
     */
    public static Image of(short[] samples, int height, int width, int channels) {
        return ofArray(samples, samples.length, SampleType.UINT16, height, width, channels);
    }

    /**
     * 32-bit floating point samples.
     *
     * @throws IllegalArgumentException if the array has not {@code height * width * channels} samples
     */
    public static Image of(float[] samples, int height, int width, int channels) {
        return ofArray(samples, samples.length, SampleType.FLOAT32, height, width, channels);
    }

    /**
     * Samples of a direct buffer in the byte order of the machine, from its position on, without gaps.
     *
     * @throws IllegalArgumentException if the buffer is not direct or too short
     */
    public static Image of(ByteBuffer samples, SampleType type, int height, int width, int channels) {
        return of(samples, type, height, width, channels, 0, 0, 0);
    }

    /**
     * Samples of a direct buffer in the byte order of the machine: sample (y, x, c) lies {@code y * rowStride + x *
     * columnStride + c * channelStride} bytes behind its position. Strides may be negative; all three 0 mean no gaps,
     * channel last.
     *
     * @throws IllegalArgumentException if the buffer is not direct or of another byte order; a sample outside of the buffer
     *     is refused by the call that reads it
     */
    public static Image of(
            ByteBuffer samples,
            SampleType type,
            int height,
            int width,
            int channels,
            long rowStride,
            long columnStride,
            long channelStride) {
        Objects.requireNonNull(samples, "samples");
        Objects.requireNonNull(type, "type");
        if (!samples.isDirect()) {
            throw new IllegalArgumentException("the buffer is not direct; give its array, or use ByteBuffer.allocateDirect");
        }
        if (type.bytes > 1 && samples.order() != ByteOrder.nativeOrder()) {
            throw new IllegalArgumentException("the buffer has the byte order " + samples.order() + "; expected "
                    + ByteOrder.nativeOrder());
        }
        boolean contiguous = rowStride == 0 && columnStride == 0 && channelStride == 0;
        if (contiguous && count(height, width, channels) * type.bytes > samples.remaining()) {
            throw new IllegalArgumentException("the buffer has " + samples.remaining() + " bytes; " + height + " x " + width
                    + " x " + channels + " samples need " + count(height, width, channels) * type.bytes);
        }
        // The address of a slice is that of its first element, and its size ends at the limit.
        Buffer slice = samples.slice();
        return new Image(slice, true, type, 0, new int[] {height, width, channels},
                new long[] {rowStride, columnStride, channelStride});
    }

    /**
     * All colour channels of an image, copied; a transparency channel is left out. Bytes stay bytes, 16-bit samples stay 16
     * bits, everything else becomes floating point. Indexed colours become red, green and blue.
     */
    public static Image of(BufferedImage image) {
        ColorModel colors = image.getColorModel();
        int bands = image.getRaster().getNumBands();
        if (colors instanceof IndexColorModel) {
            bands = 3;
        } else if (colors != null && colors.hasAlpha()) {
            bands -= 1;
        }
        int[] all = new int[bands];
        for (int i = 0; i < bands; i++) {
            all[i] = i;
        }
        return of(image, all);
    }

    /**
     * Some channels of an image, copied, in the given order.
     *
     * @throws IllegalArgumentException if the image has no such channel, or none is named
     */
    public static Image of(BufferedImage image, int... bands) {
        int height = image.getHeight();
        int width = image.getWidth();
        boolean indexed = image.getColorModel() instanceof IndexColorModel;
        Raster raster = image.getRaster();
        int available = indexed ? 3 : raster.getNumBands();
        for (int band : bands) {
            if (band < 0 || band >= available) {
                throw new IllegalArgumentException("there is no channel " + band + "; the image has " + available);
            }
        }
        if (bands.length == 0) {
            throw new IllegalArgumentException("no channel is named; the image has " + available);
        }
        if (indexed) {
            return ofIndexed(image, bands);
        }
        int size = arraySize(height, width, bands.length);
        int type = raster.getSampleModel().getDataType();
        // Packed colours come as ints of which every sample is a byte.
        boolean bytes = raster.getSampleModel().getSampleSize(0) <= 8 && type != DataBuffer.TYPE_FLOAT
                && type != DataBuffer.TYPE_DOUBLE;
        if (!bytes && type != DataBuffer.TYPE_USHORT) {
            float[] samples = new float[size];
            float[] row = new float[width];
            for (int i = 0; i < bands.length; i++) {
                for (int y = 0; y < height; y++) {
                    raster.getSamples(raster.getMinX(), raster.getMinY() + y, width, 1, bands[i], row);
                    for (int x = 0; x < width; x++) {
                        samples[(y * width + x) * bands.length + i] = row[x];
                    }
                }
            }
            return of(samples, height, width, bands.length);
        }
        byte[] small = bytes ? new byte[size] : null;
        short[] large = bytes ? null : new short[size];
        int[] row = new int[width];
        for (int i = 0; i < bands.length; i++) {
            for (int y = 0; y < height; y++) {
                raster.getSamples(raster.getMinX(), raster.getMinY() + y, width, 1, bands[i], row);
                for (int x = 0; x < width; x++) {
                    int place = (y * width + x) * bands.length + i;
                    if (bytes) {
                        small[place] = (byte) row[x];
                    } else {
                        large[place] = (short) row[x];
                    }
                }
            }
        }
        return bytes ? of(small, height, width, bands.length) : of(large, height, width, bands.length);
    }

    /** The samples. Memory that is gone, as that of a closed arena, is refused by the buffer itself. */
    Object data() {
        if (data instanceof ByteBuffer && ((ByteBuffer) data).limit() > 0) {
            ((ByteBuffer) data).get(0);
        }
        return data;
    }

    /** The samples in the byte order of the machine, without gaps. */
    byte[] packed() {
        if (data instanceof byte[]) {
            return (byte[]) data;
        }
        int size = Math.multiplyExact(arraySize(height, width, channels), type.bytes);
        ByteBuffer packed = ByteBuffer.allocate(size).order(ByteOrder.nativeOrder());
        if (data instanceof short[]) {
            packed.asShortBuffer().put((short[]) data);
        } else if (data instanceof float[]) {
            packed.asFloatBuffer().put((float[]) data);
        } else if (rowStride == 0 && columnStride == 0 && channelStride == 0) {
            ByteBuffer all = ((ByteBuffer) data).duplicate();
            all.limit(size);
            packed.put(all);
        } else {
            ByteBuffer from = (ByteBuffer) data;
            for (int y = 0; y < height; y++) {
                for (int x = 0; x < width; x++) {
                    for (int c = 0; c < channels; c++) {
                        int place = Math.toIntExact(offset + y * rowStride + x * columnStride + c * channelStride);
                        for (int i = 0; i < type.bytes; i++) {
                            packed.put(from.get(place + i));
                        }
                    }
                }
            }
        }
        return packed.array();
    }

    /** Rows. */
    public int height() {
        return height;
    }

    /** Columns. */
    public int width() {
        return width;
    }

    /** Channels. */
    public int channels() {
        return channels;
    }

    /** The type of the samples. */
    public SampleType type() {
        return type;
    }

    private static Image ofIndexed(BufferedImage image, int[] bands) {
        int height = image.getHeight();
        int width = image.getWidth();
        byte[] samples = new byte[arraySize(height, width, bands.length)];
        int[] row = new int[width];
        int place = 0;
        for (int y = 0; y < height; y++) {
            image.getRGB(0, y, width, 1, row, 0, width);
            for (int color : row) {
                for (int band : bands) {
                    samples[place++] = (byte) (color >> (16 - 8 * band));
                }
            }
        }
        return of(samples, height, width, bands.length);
    }

    private static Image ofArray(Object data, int length, SampleType type, int height, int width, int channels) {
        if (count(height, width, channels) != length) {
            throw new IllegalArgumentException("the array has " + length + " samples; " + height + " x " + width + " x "
                    + channels + " need " + count(height, width, channels));
        }
        return new Image(data, false, type, 0, new int[] {height, width, channels}, new long[3]);
    }

    private static int arraySize(int height, int width, int channels) {
        long count = count(height, width, channels);
        if (count > Integer.MAX_VALUE - 8) {
            throw new IllegalArgumentException("the image has " + count + " samples, more than an array can hold; read tiles");
        }
        return (int) count;
    }

    private static long count(int height, int width, int channels) {
        if (height < 0 || width < 0 || channels < 0) {
            throw new IllegalArgumentException("a size is negative: " + height + " x " + width + " x " + channels);
        }
        long rows = (long) height * width;
        if (channels > 0 && rows > Long.MAX_VALUE / 8 / channels) {
            throw new IllegalArgumentException(
                    height + " x " + width + " x " + channels + " samples are more than memory can hold");
        }
        return rows * channels;
    }
}
