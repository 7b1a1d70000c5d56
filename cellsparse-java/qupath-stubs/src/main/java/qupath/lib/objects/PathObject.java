package qupath.lib.objects;

import qupath.lib.measurements.MeasurementList;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.interfaces.ROI;

/** Something in an image. */
public abstract class PathObject {
    private final MeasurementList measurements = new MeasurementList.OfMap();
    private boolean locked;
    private String name;

    public String getName() {
        return name;
    }

    public void setName(String name) {
        this.name = name;
    }

    public MeasurementList getMeasurementList() {
        return measurements;
    }

    public void setLocked(boolean locked) {
        this.locked = locked;
    }

    public boolean isLocked() {
        return locked;
    }

    public abstract PathClass getPathClass();

    public abstract ROI getROI();

    public boolean isAnnotation() {
        return false;
    }

    public boolean isDetection() {
        return false;
    }
}
