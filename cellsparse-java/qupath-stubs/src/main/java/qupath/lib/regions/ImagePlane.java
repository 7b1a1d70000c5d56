package qupath.lib.regions;

/** A plane of a stack or a time series. */
public class ImagePlane {
    private final int z;
    private final int t;

    private ImagePlane(int z, int t) {
        this.z = z;
        this.t = t;
    }

    public static ImagePlane getPlane(int z, int t) {
        return new ImagePlane(z, t);
    }

    public int getZ() {
        return z;
    }

    public int getT() {
        return t;
    }
}
