package qupath.lib.projects;

import java.io.IOException;
import qupath.lib.images.ImageData;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;

/** An image of a project. */
public interface ProjectImageEntry<T> {
    String getID();

    String getImageName();

    boolean hasImageData();

    PathObjectHierarchy readHierarchy() throws IOException;

    ImageData<T> readImageData() throws IOException;

    void saveImageData(ImageData<T> imageData) throws IOException;
}
