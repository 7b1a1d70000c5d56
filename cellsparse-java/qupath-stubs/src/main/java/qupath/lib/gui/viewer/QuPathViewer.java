package qupath.lib.gui.viewer;

import java.awt.Shape;
import java.awt.geom.Point2D;
import java.awt.image.BufferedImage;
import javafx.scene.layout.Pane;
import qupath.lib.display.ImageDisplay;
import qupath.lib.images.ImageData;

/** A view of an image. */
public class QuPathViewer {
    public ImageData<BufferedImage> getImageData() {
        throw new UnsupportedOperationException();
    }

    public Pane getView() {
        throw new UnsupportedOperationException();
    }

    public boolean isSpaceDown() {
        throw new UnsupportedOperationException();
    }

    public Shape getDisplayedRegionShape() {
        throw new UnsupportedOperationException();
    }

    public ImageDisplay getImageDisplay() {
        throw new UnsupportedOperationException();
    }

    public Point2D componentPointToImagePoint(double x, double y, Point2D pointDest, boolean constrainToBounds) {
        throw new UnsupportedOperationException();
    }

    public int getZPosition() {
        throw new UnsupportedOperationException();
    }

    public int getTPosition() {
        throw new UnsupportedOperationException();
    }
}
