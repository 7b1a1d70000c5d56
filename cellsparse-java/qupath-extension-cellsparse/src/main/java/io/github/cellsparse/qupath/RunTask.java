package io.github.cellsparse.qupath;

import io.github.cellsparse.CancelToken;
import io.github.cellsparse.TrainingProgress;
import io.github.cellsparse.qupath.work.Failure;
import io.github.cellsparse.qupath.work.Monitor;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.function.BiConsumer;
import javafx.application.Platform;
import javafx.concurrent.Task;

/** A run as a task of JavaFX. Its value is what to tell at the end. */
final class RunTask extends Task<String> implements Monitor {
    /** What the task does. */
    interface Job {
        String run(Monitor monitor) throws Failure;
    }

    private final Job job;
    private final CancelToken token = new CancelToken();
    /** Each once, however many tiles bring it up. */
    private final Set<String> warnings = Collections.synchronizedSet(new LinkedHashSet<>());
    private BiConsumer<Number, Number> onLoss = (step, loss) -> {};
    private String about = "";

    RunTask(Job job) {
        this.job = job;
    }

    /** Who is told the loss of steps, on the JavaFX thread. */
    void onLoss(BiConsumer<Number, Number> listener) {
        onLoss = listener;
    }

    /** What was warned of so far. */
    List<String> warnings() {
        return List.copyOf(warnings);
    }

    /** Asks the work to stop at its next step or tile. The thread is not interrupted: the model is still to be saved. */
    void stop() {
        updateMessage("Stopping after this step");
        token.cancel();
    }

    @Override
    protected String call() throws Failure {
        return job.run(this);
    }

    @Override
    public void message(String text) {
        about = text;
        updateMessage(text);
        updateProgress(-1, 1);
    }

    @Override
    public void warn(String text) {
        warnings.add(text);
    }

    @Override
    public void step(TrainingProgress progress) {
        if (!token.isCancelled()) {
            updateMessage(String.format(Locale.ROOT, "%s: step %d of %d, loss %.4f, %s left", about, progress.step(),
                    progress.totalSteps(), progress.loss(), duration(progress.remaining())));
        }
        updateProgress(progress.step(), progress.totalSteps());
        Platform.runLater(() -> onLoss.accept(progress.step(), progress.loss()));
    }

    @Override
    public void tiles(int done, int all) {
        if (all > 1 && done < all && !token.isCancelled()) {
            updateMessage(about + ", tile " + (done + 1) + " of " + all);
        }
        // Of a single tile nothing is known until it is done.
        updateProgress(all > 1 || done == all ? done : -1, all);
    }

    @Override
    public CancelToken token() {
        return token;
    }

    static String duration(double seconds) {
        long whole = Math.max(0, Math.round(seconds));
        return whole < 60 ? whole + " s" : whole / 60 + " min " + whole % 60 + " s";
    }
}
