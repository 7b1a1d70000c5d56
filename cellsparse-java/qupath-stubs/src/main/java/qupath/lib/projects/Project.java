package qupath.lib.projects;

import java.nio.file.Path;
import java.util.List;
import qupath.lib.images.ImageData;

/** A project. */
public interface Project<T> {
    Path getPath();

    List<ProjectImageEntry<T>> getImageList();

    ProjectImageEntry<T> getEntry(ImageData<T> imageData);
}
