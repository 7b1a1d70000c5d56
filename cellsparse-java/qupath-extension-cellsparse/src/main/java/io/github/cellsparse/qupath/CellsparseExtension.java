package io.github.cellsparse.qupath;

import io.github.cellsparse.Algorithm;
import javafx.scene.control.Menu;
import javafx.scene.control.MenuItem;
import javafx.scene.control.SeparatorMenuItem;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.extensions.QuPathExtension;

/** Adds the menus. The native library is loaded by the first command, not here. */
public final class CellsparseExtension implements QuPathExtension {
    @Override
    public void installExtension(QuPathGUI qupath) {
        Commands best = new Commands(qupath, null);
        qupath.getMenu("Extensions>Cellsparse>" + title(null), true).getItems().addAll(
                item("Training", best::train),
                item("Inference", best::predict),
                item("Reset", best::reset),
                new SeparatorMenuItem(),
                item("Settings", best::settings));
        for (Algorithm algorithm : Algorithm.values()) {
            Commands commands = new Commands(qupath, algorithm);
            Menu menu = qupath.getMenu("Extensions>Cellsparse>" + title(algorithm), true);
            menu.getItems().addAll(
                    item("Training", commands::train),
                    item("Inference", commands::predict),
                    item("Reset", commands::reset),
                    item("Server URL", commands::serverUrl),
                    new SeparatorMenuItem(),
                    item("Settings", commands::settings));
        }
        addClicks(qupath);
    }

    private static void addClicks(QuPathGUI qupath) {
        ClickTool clicks = new ClickTool(qupath);
        qupath.getMenu("Extensions>Cellsparse", true).getItems().addAll(
                new SeparatorMenuItem(),
                clicks.item(),
                item("Weights of Outline by click", clicks::chooseWeights));
    }

    @Override
    public String getName() {
        return "Cellsparse";
    }

    @Override
    public String getDescription() {
        return "Train StarDist, Cellpose and ELEPHANT from a few drawn cells, and segment the rest";
    }

    /** Nothing to do without windows: scripts use {@link CellsparseRun}. Asked for from QuPath 0.7 on. */
    public void installHeadless() {}

    /** The name of an algorithm in menus. */
    static String title(Algorithm algorithm) {
        if (algorithm == null) {
            return "Automatic";
        }
        switch (algorithm) {
            case STARDIST:
                return "StarDist";
            case CELLPOSE:
                return "Cellpose";
            default:
                return "ELEPHANT";
        }
    }

    private static MenuItem item(String name, Runnable command) {
        MenuItem item = new MenuItem(name);
        item.setOnAction(event -> command.run());
        return item;
    }
}
