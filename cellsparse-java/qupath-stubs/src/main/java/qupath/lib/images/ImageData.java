package qupath.lib.images;

import qupath.lib.images.servers.ImageServer;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.plugins.workflow.Workflow;

/** An image with its objects and its history. */
public class ImageData<T> {
    public ImageServer<T> getServer() {
        throw new UnsupportedOperationException();
    }

    public PathObjectHierarchy getHierarchy() {
        throw new UnsupportedOperationException();
    }

    public Workflow getHistoryWorkflow() {
        throw new UnsupportedOperationException();
    }
}
