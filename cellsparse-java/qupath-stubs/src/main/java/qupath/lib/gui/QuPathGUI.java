package qupath.lib.gui;

import java.awt.image.BufferedImage;
import javafx.collections.ObservableList;
import javafx.scene.control.Menu;
import javafx.stage.Stage;
import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.images.ImageData;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.projects.Project;

/** The main window. */
public class QuPathGUI {
    public Menu getMenu(String name, boolean createMenu) {
        throw new UnsupportedOperationException();
    }

    public ImageData<BufferedImage> getImageData() {
        throw new UnsupportedOperationException();
    }

    public Project<BufferedImage> getProject() {
        throw new UnsupportedOperationException();
    }

    public QuPathViewer getViewer() {
        throw new UnsupportedOperationException();
    }

    public ObservableList<QuPathViewer> getAllViewers() {
        throw new UnsupportedOperationException();
    }

    public ObservableList<PathClass> getAvailablePathClasses() {
        throw new UnsupportedOperationException();
    }

    public Stage getStage() {
        throw new UnsupportedOperationException();
    }
}
