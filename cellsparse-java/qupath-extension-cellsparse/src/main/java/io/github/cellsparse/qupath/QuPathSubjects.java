package io.github.cellsparse.qupath;

import io.github.cellsparse.qupath.work.Drawing;
import io.github.cellsparse.qupath.work.Failure;
import io.github.cellsparse.qupath.work.Slide;
import io.github.cellsparse.qupath.work.Subject;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import qupath.lib.images.ImageData;
import qupath.lib.projects.Project;
import qupath.lib.projects.ProjectImageEntry;

/** The images to train on: the open one, and the other annotated ones of its project. */
final class QuPathSubjects {
    private QuPathSubjects() {}

    /** The open image, as it is annotated now. Opening it gives {@code slide} itself. */
    static Subject open(ImageData<BufferedImage> imageData, Slide slide, int z, int t) {
        List<Drawing> drawings = QuPathObjects.drawings(imageData.getHierarchy(), z, t);
        return subject(slide.name(), drawings, () -> slide);
    }

    /** All other images of the project, as they were saved, opened one by one. */
    static List<Subject> others(Project<BufferedImage> project, ImageData<BufferedImage> imageData, int z, int t)
            throws Failure {
        ProjectImageEntry<BufferedImage> current = project.getEntry(imageData);
        List<Subject> subjects = new ArrayList<>();
        for (ProjectImageEntry<BufferedImage> entry : project.getImageList()) {
            if (entry.hasImageData() && (current == null || !entry.getID().equals(current.getID()))) {
                try {
                    List<Drawing> drawings = QuPathObjects.drawings(entry.readHierarchy(), z, t);
                    subjects.add(subject(entry.getImageName(), drawings, () -> slide(entry, z, t)));
                } catch (IOException | RuntimeException error) {
                    throw new Failure("the annotations of the image '" + entry.getImageName() + "' cannot be read: "
                            + error.getMessage(), error);
                }
            }
        }
        return subjects;
    }

    private static Slide slide(ProjectImageEntry<BufferedImage> entry, int z, int t) throws IOException {
        try {
            return new QuPathSlide(entry.readImageData().getServer(), z, t, true);
        } catch (IOException | RuntimeException error) {
            // QuPath opens servers when they are first asked for, where no checked exception fits.
            throw new IOException("the image '" + entry.getImageName() + "' of the project cannot be opened ("
                    + error.getMessage() + ")", error);
        }
    }

    private interface Opener {
        Slide open() throws IOException;
    }

    private static Subject subject(String name, List<Drawing> drawings, Opener opener) {
        return new Subject() {
            @Override
            public String name() {
                return name;
            }

            @Override
            public List<Drawing> drawings() {
                return drawings;
            }

            @Override
            public Slide open() throws IOException {
                return opener.open();
            }
        };
    }
}
