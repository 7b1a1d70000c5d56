package io.github.cellsparse.qupath;

import io.github.cellsparse.CancelToken;
import io.github.cellsparse.TrainingProgress;
import io.github.cellsparse.qupath.work.Monitor;
import java.util.Locale;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Writes what a script's run does to QuPath's log. Interrupting the script stops the run. */
final class LogMonitor implements Monitor {
    private static final Logger LOG = LoggerFactory.getLogger(CellsparseRun.class);
    private final CancelToken token = new CancelToken();

    @Override
    public void message(String text) {
        LOG.info(text);
        stopIfInterrupted();
    }

    @Override
    public void warn(String text) {
        LOG.warn(text);
    }

    @Override
    public void step(TrainingProgress progress) {
        if (progress.step() % 25 == 0 || progress.step() == progress.totalSteps()) {
            LOG.info(String.format(Locale.ROOT, "step %d of %d, loss %.4f, %.0f s left", progress.step(),
                    progress.totalSteps(), progress.loss(), progress.remaining()));
        }
        stopIfInterrupted();
    }

    @Override
    public void tiles(int done, int all) {
        if (all > 1 && done > 0) {
            LOG.info("tile {} of {} done", done, all);
        }
        stopIfInterrupted();
    }

    @Override
    public CancelToken token() {
        return token;
    }

    private void stopIfInterrupted() {
        if (Thread.currentThread().isInterrupted()) {
            token.cancel();
        }
    }
}
