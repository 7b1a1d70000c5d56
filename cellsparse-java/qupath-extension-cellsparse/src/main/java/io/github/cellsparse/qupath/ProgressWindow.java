package io.github.cellsparse.qupath;

import javafx.geometry.Insets;
import javafx.scene.Scene;
import javafx.scene.chart.LineChart;
import javafx.scene.chart.NumberAxis;
import javafx.scene.chart.XYChart;
import javafx.scene.control.Button;
import javafx.scene.control.Label;
import javafx.scene.control.ProgressBar;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;
import javafx.stage.Window;

/** Shows a run: what is done, how far it is, the loss so far, and a button that stops it. */
final class ProgressWindow {
    /** Points of the chart; beyond them every second one is dropped, so that long trainings stay quick to draw. */
    private static final int POINTS = 400;

    private final Stage stage = new Stage();
    private final XYChart.Series<Number, Number> losses = new XYChart.Series<>();
    private int every = 1;

    ProgressWindow(String title, RunTask task, Window owner, boolean training) {
        Label message = new Label();
        message.setWrapText(true);
        message.textProperty().bind(task.messageProperty());
        ProgressBar bar = new ProgressBar();
        bar.setMaxWidth(Double.MAX_VALUE);
        bar.progressProperty().bind(task.progressProperty());
        Button stop = new Button(training ? "Stop and keep the model" : "Stop");
        stop.setOnAction(event -> {
            stop.setDisable(true);
            task.stop();
        });
        VBox box = new VBox(10, message, bar);
        if (training) {
            box.getChildren().add(chart());
            task.onLoss(this::add);
        }
        box.getChildren().add(stop);
        box.setPadding(new Insets(12));
        box.setPrefWidth(460);
        stage.initOwner(owner);
        stage.setTitle(title);
        stage.setScene(new Scene(box));
        // Closing the window stops the run, as everywhere.
        stage.setOnCloseRequest(event -> {
            event.consume();
            stop.fire();
        });
    }

    void show() {
        stage.show();
    }

    void close() {
        stage.close();
    }

    private LineChart<Number, Number> chart() {
        NumberAxis steps = new NumberAxis();
        steps.setLabel("step");
        steps.setForceZeroInRange(false);
        NumberAxis loss = new NumberAxis();
        loss.setLabel("loss");
        loss.setForceZeroInRange(false);
        LineChart<Number, Number> chart = new LineChart<>(steps, loss);
        chart.setAnimated(false);
        chart.setCreateSymbols(false);
        chart.setLegendVisible(false);
        chart.setPrefHeight(220);
        chart.getData().add(losses);
        return chart;
    }

    private void add(Number step, Number loss) {
        if (step.longValue() % every != 0) {
            return;
        }
        losses.getData().add(new XYChart.Data<>(step, loss));
        if (losses.getData().size() > POINTS) {
            every *= 2;
            losses.getData().removeIf(point -> point.getXValue().longValue() % every != 0);
        }
    }
}
