package io.github.cellsparse.qupath.work;

/** The run was stopped by whoever watches it. */
public final class Stopped extends Failure {
    private static final long serialVersionUID = 1L;

    /** A stop. */
    public Stopped() {
        super("stopped");
    }
}
