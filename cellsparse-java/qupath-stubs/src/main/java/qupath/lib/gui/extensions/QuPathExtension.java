package qupath.lib.gui.extensions;

import qupath.lib.gui.QuPathGUI;

/** What an extension offers. */
public interface QuPathExtension {
    void installExtension(QuPathGUI qupath);

    String getName();

    String getDescription();
}
