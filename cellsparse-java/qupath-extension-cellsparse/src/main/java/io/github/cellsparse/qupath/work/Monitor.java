package io.github.cellsparse.qupath.work;

import io.github.cellsparse.CancelToken;
import io.github.cellsparse.TrainingProgress;

/** Watches a run. Called on the thread that does the work, or on one of its helpers. */
public interface Monitor {
    /** What is done now. */
    void message(String text);

    /** Something that a person should know, though the work goes on. */
    void warn(String text);

    /** A training step. */
    void step(TrainingProgress progress);

    /** Parts of the segmentation that are done; first none, then after each. */
    void tiles(int done, int all);

    /** Raised by whoever wants the run to stop. */
    CancelToken token();

    /**
     * Ends the run if it should stop.
     *
     * @throws Stopped if the token is raised
     */
    default void check() throws Stopped {
        if (token().isCancelled()) {
            throw new Stopped();
        }
    }
}
