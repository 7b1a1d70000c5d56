package io.github.cellsparse.qupath;

import io.github.cellsparse.Algorithm;
import java.util.ArrayList;
import java.util.List;
import javafx.beans.property.BooleanProperty;
import javafx.beans.property.DoubleProperty;
import javafx.beans.property.IntegerProperty;
import javafx.beans.property.Property;
import javafx.beans.property.StringProperty;
import javafx.event.ActionEvent;
import javafx.geometry.Insets;
import javafx.scene.control.Button;
import javafx.scene.control.ButtonType;
import javafx.scene.control.CheckBox;
import javafx.scene.control.Dialog;
import javafx.scene.control.Label;
import javafx.scene.control.TextField;
import javafx.scene.control.Tooltip;
import javafx.scene.layout.GridPane;
import javafx.stage.Window;
import qupath.fx.dialogs.Dialogs;

/** Shows and changes the preferences of one algorithm. Nothing changes before OK, and nothing wrong is accepted. */
final class SettingsDialog {
    private final Preferences preferences;
    private final Algorithm algorithm;
    private final GridPane grid = new GridPane();
    private final List<Runnable> writers = new ArrayList<>();
    private final List<Property<?>> properties = new ArrayList<>();

    private SettingsDialog(Algorithm algorithm) {
        this.algorithm = algorithm;
        preferences = Preferences.of(algorithm);
        grid.setHgap(10);
        grid.setVgap(5);
        grid.setPadding(new Insets(10));
        text("Model", preferences.model, "Name of the model; it is kept in the project");
        number("Training time (seconds)", preferences.timeBudget, "How long one training takes in QuPath");
        number("or training steps", preferences.steps, "Batches of one training; 0 lets the time decide, 200 on a server");
        number("Pixel size (micrometres)", preferences.pixelSize, "Resolution to work at; 0 is full resolution");
        number("or downsample", preferences.downsample, "Full-resolution pixels along a pixel; 0 lets the pixel size decide");
        text("Channels", preferences.channels, "Numbers separated by commas, the first is 1; empty means all");
        flag("Segment after training", preferences.segment, "Show at once what the network learned");
        flag("Results as detections", preferences.detections, "Otherwise as annotations, which can be corrected");
        flag("Train on all images of the project", preferences.allImages, "Annotations of other images, as they were saved");
        if (algorithm == Algorithm.CELLPOSE) {
            number("Cell diameter (pixels)", preferences.diameter, "0 takes that of the drawn cells");
        } else if (algorithm != null) {
            number("Smallest probability", preferences.probability, "0 takes what the model chose from the annotations");
        }
        number("Smallest area (pixels)", preferences.minArea, "Smaller objects are left out");
        number("Simplify outlines (pixels)", preferences.simplify, "Tolerance; 0 keeps the outlines exact");
        number("Tile size (pixels)", preferences.tileSize, "Large regions are segmented in tiles");
        number("Tile overlap (pixels)", preferences.overlap, "More than the size of the largest object");
        number("Batch size", preferences.batchSize, "Patches that are learned from together; 0 takes what measures best");
        number("Patch size (pixels)", preferences.patchSize, "Side of the patches that are learned from; 0 takes what measures best");
        number("Learning rate", preferences.learningRate, "0 takes the one that measures best");
        number("Seed", preferences.seed, "The same seed gives the same model");
        number("Threads", preferences.threads, "0 takes one per core");
        text("Models without a project", preferences.modelFolder, "A folder for models; empty keeps them in the project");
        if (algorithm != null) {
            text("Server URL", preferences.serverUrl, "Empty does the work here");
        }
    }

    /** Shows the dialog and waits for it. */
    static void show(Algorithm algorithm, Window owner) {
        SettingsDialog settings = new SettingsDialog(algorithm);
        Dialog<ButtonType> dialog = new Dialog<>();
        dialog.initOwner(owner);
        dialog.setTitle("Cellsparse " + CellsparseExtension.title(algorithm));
        dialog.getDialogPane().setContent(settings.grid);
        dialog.getDialogPane().getButtonTypes().addAll(ButtonType.OK, ButtonType.CANCEL);
        Button accept = (Button) dialog.getDialogPane().lookupButton(ButtonType.OK);
        accept.addEventFilter(ActionEvent.ACTION, event -> {
            String problem = settings.accept();
            if (problem != null) {
                event.consume();
                Dialogs.showErrorMessage("Cellsparse settings", problem);
            }
        });
        dialog.showAndWait();
    }

    /** Takes over what was typed, or says what is wrong with it and takes over nothing. */
    private String accept() {
        List<Object> before = new ArrayList<>();
        properties.forEach(property -> before.add(property.getValue()));
        try {
            writers.forEach(Runnable::run);
            preferences.builder(algorithm).build();
            return null;
        } catch (Exception error) {
            for (int i = 0; i < before.size(); i++) {
                put(properties.get(i), before.get(i));
            }
            return error.getMessage();
        }
    }

    @SuppressWarnings("unchecked")
    private static void put(Property<?> property, Object value) {
        ((Property<Object>) property).setValue(value);
    }

    private void text(String name, StringProperty property, String help) {
        TextField field = field(name, property.get() == null ? "" : property.get(), help);
        properties.add(property);
        writers.add(() -> property.set(field.getText().strip()));
    }

    private void number(String name, IntegerProperty property, String help) {
        TextField field = field(name, String.valueOf(property.get()), help);
        properties.add(property);
        writers.add(() -> property.set((int) parse(name, field.getText(), true)));
    }

    private void number(String name, DoubleProperty property, String help) {
        TextField field = field(name, String.valueOf(property.get()), help);
        properties.add(property);
        writers.add(() -> property.set(parse(name, field.getText(), false)));
    }

    private void flag(String name, BooleanProperty property, String help) {
        CheckBox box = new CheckBox(name);
        box.setSelected(property.get());
        box.setTooltip(new Tooltip(help));
        grid.add(box, 1, grid.getRowCount());
        properties.add(property);
        writers.add(() -> property.set(box.isSelected()));
    }

    private static double parse(String name, String text, boolean whole) {
        try {
            double value = whole ? Integer.parseInt(text.strip()) : Double.parseDouble(text.strip().replace(',', '.'));
            if (Double.isFinite(value)) {
                return value;
            }
        } catch (NumberFormatException error) {
            // Told below.
        }
        throw new IllegalArgumentException(
                name + " is '" + text + "'; expected a " + (whole ? "whole number" : "number such as 0.5"));
    }

    private TextField field(String name, String value, String help) {
        int row = grid.getRowCount();
        TextField field = new TextField(value);
        field.setTooltip(new Tooltip(help));
        field.setPrefColumnCount(22);
        Label label = new Label(name);
        label.setLabelFor(field);
        grid.add(label, 0, row);
        grid.add(field, 1, row);
        return field;
    }
}
