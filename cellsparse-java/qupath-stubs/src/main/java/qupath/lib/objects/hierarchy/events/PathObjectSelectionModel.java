package qupath.lib.objects.hierarchy.events;

import java.util.Set;
import qupath.lib.objects.PathObject;

/** The selected objects. */
public class PathObjectSelectionModel {
    public Set<PathObject> getSelectedObjects() {
        throw new UnsupportedOperationException();
    }

    public void setSelectedObject(PathObject pathObject) {
        throw new UnsupportedOperationException();
    }
}
