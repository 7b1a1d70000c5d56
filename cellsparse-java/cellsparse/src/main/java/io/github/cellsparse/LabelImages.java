package io.github.cellsparse;

import java.util.List;

/** What can be done with any label image: {@code int[]}, row by row, below 0 unlabelled, 0 background, 1 and up objects. */
public final class LabelImages {
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
        double[] s = Native.matching(truth, height, width, predicted, height, width, thresh);
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
