package qupath.lib.gui.prefs;

import javafx.beans.property.BooleanProperty;
import javafx.beans.property.DoubleProperty;
import javafx.beans.property.IntegerProperty;
import javafx.beans.property.ObjectProperty;
import javafx.beans.property.SimpleBooleanProperty;
import javafx.beans.property.SimpleDoubleProperty;
import javafx.beans.property.SimpleIntegerProperty;
import javafx.beans.property.SimpleObjectProperty;
import javafx.beans.property.SimpleStringProperty;
import javafx.beans.property.StringProperty;
import qupath.lib.objects.classes.PathClass;

/** Preferences; here they last as long as the process. */
public class PathPrefs {
    private static final ObjectProperty<PathClass> AUTO_SET_CLASS = new SimpleObjectProperty<>();

    public static ObjectProperty<PathClass> autoSetAnnotationClassProperty() {
        return AUTO_SET_CLASS;
    }

    public static BooleanProperty createPersistentPreference(String name, boolean defaultValue) {
        return new SimpleBooleanProperty(null, name, defaultValue);
    }

    public static IntegerProperty createPersistentPreference(String name, int defaultValue) {
        return new SimpleIntegerProperty(null, name, defaultValue);
    }

    public static DoubleProperty createPersistentPreference(String name, double defaultValue) {
        return new SimpleDoubleProperty(null, name, defaultValue);
    }

    public static StringProperty createPersistentPreference(String name, String defaultValue) {
        return new SimpleStringProperty(null, name, defaultValue);
    }
}
