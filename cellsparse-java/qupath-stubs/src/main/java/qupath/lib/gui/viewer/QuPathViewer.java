package qupath.lib.gui.viewer;

/** A view of an image. */
public class QuPathViewer {
    public int getZPosition() {
        throw new UnsupportedOperationException();
    }

    public int getTPosition() {
        throw new UnsupportedOperationException();
    }
}
