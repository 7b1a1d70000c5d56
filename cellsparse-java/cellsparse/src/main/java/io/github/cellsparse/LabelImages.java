package io.github.cellsparse;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** What can be done with any label image: {@code int[]}, row by row, below 0 unlabelled, 0 background, 1 and up objects. */
public final class LabelImages {
    /** Numbers that one threshold is described by. */
    private static final int SCORES = 13;

    private LabelImages() {}

    /** The outlines of the objects, in increasing id. */
    public static List<Outline> outlines(int[] labels, int height, int width, OutlineOptions options) {
        NativeLibrary.require();
        Labels.checkSize(labels, height, width);
        int signed = Labels.Encoding.SIGNED.code;
        return Outline.take(Native.labelsOutlines(labels, signed, height, width, options.json()));
    }

    /** The outlines as a JSON array of GeoJSON features. */
    public static String toGeoJson(int[] labels, int height, int width, OutlineOptions options) {
        NativeLibrary.require();
        Labels.checkSize(labels, height, width);
        return Native.labelsGeojson(labels, Labels.Encoding.SIGNED.code, height, width, options.json());
    }

    /**
     * Compares a true and a predicted label image object by object, by intersection over union at {@code thresh}, usually
     * 0.5. Unlabelled pixels of the truth do not count.
     */
    public static Scores matching(int[] truth, int[] predicted, int height, int width, double thresh) {
        NativeLibrary.require();
        Labels.checkSize(truth, height, width);
        Labels.checkSize(predicted, height, width);
        return scores(Native.matching(truth, height, width, predicted, height, width, thresh), 0);
    }

    /**
     * Compares many pairs of label images at many thresholds. Counts are summed over the images; the scores are those of the
     * sums, or with {@code byImage} the means of the images' scores.
     *
     * @param sizes rows and columns of each pair
     * @return scores at each threshold
     */
    public static List<Scores> matchingDataset(
            List<int[]> truths, List<int[]> predictions, List<int[]> sizes, double[] thresholds, boolean byImage) {
        NativeLibrary.require();
        if (truths.size() != predictions.size() || truths.size() != sizes.size()) {
            throw new IllegalArgumentException(truths.size() + " true label images, " + predictions.size()
                    + " predicted ones and " + sizes.size() + " sizes; they must be as many");
        }
        int[] flat = new int[2 * sizes.size()];
        for (int i = 0; i < sizes.size(); i++) {
            int[] size = sizes.get(i);
            if (size.length != 2) {
                throw new IllegalArgumentException("size " + i + " has " + size.length + " numbers; give rows and columns");
            }
            Labels.checkSize(truths.get(i), size[0], size[1]);
            Labels.checkSize(predictions.get(i), size[0], size[1]);
            flat[2 * i] = size[0];
            flat[2 * i + 1] = size[1];
        }
        double[] all = Native.matchingDataset(joined(truths), joined(predictions), flat, thresholds, byImage);
        List<Scores> scores = new ArrayList<>();
        for (int i = 0; i < thresholds.length; i++) {
            scores.add(scores(all, i));
        }
        return scores;
    }

    private static int[] joined(List<int[]> images) {
        long total = images.stream().mapToLong(image -> image.length).sum();
        if (total > Integer.MAX_VALUE) {
            throw new IllegalArgumentException("the label images have " + total + " pixels together; compare fewer at a time");
        }
        return images.stream().flatMapToInt(Arrays::stream).toArray();
    }

    private static Scores scores(double[] all, int index) {
        double[] s = Arrays.copyOfRange(all, SCORES * index, SCORES * (index + 1));
        return new Scores(s[0], (long) s[1], (long) s[2], (long) s[3], s[4], s[5], s[6], s[7], (long) s[8], (long) s[9],
                s[10], s[11], s[12]);
    }

    /**
     * Counts and scores at one threshold, with the fields of stardist.matching.
     *
     * @param thresh intersection over union from which a pair counts as matched
     * @param fp predicted objects without a partner
     * @param tp matched pairs
     * @param fn true objects without a partner
     * @param precision tp / (tp + fp)
     * @param recall tp / (tp + fn)
     * @param accuracy tp / (tp + fp + fn)
     * @param f1 2 tp / (2 tp + fp + fn)
     * @param nTrue true objects
     * @param nPred predicted objects
     * @param meanTrueScore sum of the agreement of the matched pairs over nTrue
     * @param meanMatchedScore sum of the agreement of the matched pairs over tp
     * @param panopticQuality sum of the agreement of the matched pairs over tp + fp / 2 + fn / 2
     */
    public record Scores(
            double thresh,
            long fp,
            long tp,
            long fn,
            double precision,
            double recall,
            double accuracy,
            double f1,
            long nTrue,
            long nPred,
            double meanTrueScore,
            double meanMatchedScore,
            double panopticQuality) {}
}
