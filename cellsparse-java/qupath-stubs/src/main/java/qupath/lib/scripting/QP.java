package qupath.lib.scripting;

import java.awt.image.BufferedImage;
import qupath.lib.projects.Project;

/** What scripts see. */
public class QP {
    public static Project<BufferedImage> getProject() {
        return null;
    }
}
