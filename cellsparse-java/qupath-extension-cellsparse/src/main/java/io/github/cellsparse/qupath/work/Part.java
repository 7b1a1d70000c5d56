package io.github.cellsparse.qupath.work;

import java.awt.Rectangle;
import java.awt.image.BufferedImage;
import java.io.IOException;

/**
 * Pixels of a rectangle of a slide, and where they lie. What the image server returns decides the size, so that places are
 * right for every downsample.
 */
record Part(Rectangle area, Rectangle slideBounds, BufferedImage picture) {
    static Part read(Slide slide, Rectangle area, double downsample) throws IOException, Failure {
        BufferedImage picture = slide.read(downsample, area.x, area.y, area.width, area.height);
        if (picture == null) {
            throw new Failure("the image '" + slide.name() + "' has no pixels at x=" + area.x + ", y=" + area.y + ", "
                    + area.width + " x " + area.height + " (of " + slide.width() + " x " + slide.height() + ")");
        }
        return new Part(area, new Rectangle(slide.width(), slide.height()), picture);
    }

    /** Full-resolution pixels along a column of the picture. */
    double scaleX() {
        return area.width / (double) picture.getWidth();
    }

    /** Full-resolution pixels along a row of the picture. */
    double scaleY() {
        return area.height / (double) picture.getHeight();
    }

    /** An object of the picture, at full resolution. */
    Found place(Found found) {
        return found.moved(scaleX(), scaleY(), area.x, area.y);
    }
}
