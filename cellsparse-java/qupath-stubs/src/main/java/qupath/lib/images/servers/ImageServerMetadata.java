package qupath.lib.images.servers;

/** What is known of an image. */
public class ImageServerMetadata {
    public String getName() {
        throw new UnsupportedOperationException();
    }
}
