package io.github.cellsparse.qupath.work;

/** The run was stopped by whoever watches it. The message tells what is kept. */
public final class Stopped extends Failure {
    private static final long serialVersionUID = 1L;

    /** A stop that leaves nothing behind. */
    public Stopped() {
        super("Stopped.");
    }

    /** A stop after which something is kept, or is lost. */
    public Stopped(String message) {
        super(message);
    }
}
