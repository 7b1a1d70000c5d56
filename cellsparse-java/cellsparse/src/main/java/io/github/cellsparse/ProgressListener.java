package io.github.cellsparse;

/** Watches a training. */
@FunctionalInterface
public interface ProgressListener {
    /**
     * Called after every step, on the thread that called {@link Model#train}. What it throws stops the training, which then
     * throws the same; the weights reached so far are kept.
     *
     * @return true to go on; false to stop after this step, which keeps the weights reached so far
     */
    boolean onStep(TrainingProgress progress);
}
