package io.github.cellsparse.qupath.work;

import java.io.IOException;
import java.util.Arrays;
import java.util.StringJoiner;

/**
 * The intensities of one slide that become 0 and 1, channel by channel. All parts of a slide are scaled alike, whatever they
 * show; the percentiles are those that the library would take of the whole slide, measured on an overview if it is large, or
 * its extremes where the percentiles are one value.
 */
final class Intensities {
    /** Longest side of the overview, in pixels. */
    private static final int OVERVIEW = 1024;

    /** What becomes 0, for each channel. */
    private final float[] low;
    /** What becomes 1, for each channel; above {@link #low}. */
    private final float[] high;

    private Intensities(float[] low, float[] high) {
        this.low = low;
        this.high = high;
    }

    /** Measures percentiles (0 to 100) of a slide at the resolution of {@code downsample} or a coarser one. */
    static Intensities measure(Slide slide, double downsample, int[] channels, double pmin, double pmax)
            throws IOException, Failure {
        double overview = Math.max(downsample, Math.max(slide.width(), slide.height()) / (double) OVERVIEW);
        Samples samples =
                Samples.of(slide.read(overview, 0, 0, slide.width(), slide.height()), channels);
        float[] low = new float[channels.length];
        float[] high = new float[channels.length];
        float[] channel = new float[samples.height() * samples.width()];
        for (int c = 0; c < channels.length; c++) {
            for (int i = 0; i < channel.length; i++) {
                channel[i] = samples.values()[i * channels.length + c];
            }
            Arrays.sort(channel);
            low[c] = percentile(channel, pmin);
            high[c] = percentile(channel, pmax);
            if (high[c] <= low[c]) {
                // So few pixels differ from the rest that no percentile sees them.
                low[c] = channel[0];
                high[c] = channel[channel.length - 1];
            }
            if (!Float.isFinite(low[c]) || !Float.isFinite(high[c])) {
                throw new Failure("channel " + (channels[c] + 1) + " of the image '" + slide.name()
                        + "' has values that are not numbers; choose other channels");
            }
        }
        widen(slide, channels, low, high);
        return new Intensities(low, high);
    }

    /** Scales a channel without contrast like the strongest of the others, so that it stays one value. */
    private static void widen(Slide slide, int[] channels, float[] low, float[] high) throws Failure {
        float most = 0;
        StringJoiner constant = new StringJoiner(", ");
        for (int c = 0; c < channels.length; c++) {
            most = Math.max(most, high[c] - low[c]);
            if (high[c] <= low[c]) {
                constant.add(String.valueOf(channels[c] + 1));
            }
        }
        if (!(most > 0)) {
            throw new Failure("the image '" + slide.name() + "' is constant in channel " + constant
                    + ", so there is nothing to tell cells by; choose other channels or another image");
        }
        for (int c = 0; c < channels.length; c++) {
            if (high[c] <= low[c]) {
                high[c] = Math.max(low[c] + most, Math.nextUp(low[c]));
            }
        }
    }

    /** What becomes 0, for each channel. */
    float[] low() {
        return low.clone();
    }

    /** What becomes 1, for each channel. */
    float[] high() {
        return high.clone();
    }

    /** Scales samples in place. */
    Samples apply(Samples samples) {
        float[] values = samples.values();
        for (int i = 0; i < values.length; i++) {
            int c = i % low.length;
            values[i] = (values[i] - low[c]) / (high[c] - low[c]);
        }
        return samples;
    }

    /** Linear interpolation between order statistics at {@code p / 100 * (n - 1)}, from the nearer end. */
    private static float percentile(float[] sorted, double p) {
        int last = sorted.length - 1;
        double position = p / 100 * last;
        int below = Math.min((int) Math.floor(position), last);
        double low = sorted[below];
        double high = sorted[Math.min(below + 1, last)];
        double fraction = position - below;
        return (float) (fraction < 0.5 ? low + (high - low) * fraction : high - (high - low) * (1 - fraction));
    }
}
