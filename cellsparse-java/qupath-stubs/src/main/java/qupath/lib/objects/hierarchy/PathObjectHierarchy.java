package qupath.lib.objects.hierarchy;

import java.util.Collection;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.events.PathObjectSelectionModel;

/** The objects of an image. */
public class PathObjectHierarchy {
    public Collection<PathObject> getAnnotationObjects() {
        throw new UnsupportedOperationException();
    }

    public Collection<PathObject> getDetectionObjects() {
        throw new UnsupportedOperationException();
    }

    public PathObjectSelectionModel getSelectionModel() {
        throw new UnsupportedOperationException();
    }

    public boolean addObjects(Collection<? extends PathObject> objects) {
        throw new UnsupportedOperationException();
    }

    public void removeObjects(Collection<? extends PathObject> objects, boolean keepChildren) {
        throw new UnsupportedOperationException();
    }
}
