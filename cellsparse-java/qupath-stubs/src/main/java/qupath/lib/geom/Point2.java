package qupath.lib.geom;

/** A point. */
public class Point2 {
    private final double x;
    private final double y;

    public Point2(double x, double y) {
        this.x = x;
        this.y = y;
    }

    public double getX() {
        return x;
    }

    public double getY() {
        return y;
    }
}
