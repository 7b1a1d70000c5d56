package io.github.cellsparse.qupath.work;

/** A run cannot go on; the message says what was found, what was expected and what to do. */
public class Failure extends Exception {
    private static final long serialVersionUID = 1L;

    /** A failure. */
    public Failure(String message) {
        super(message);
    }

    /** A failure that something else brought about. */
    public Failure(String message, Throwable cause) {
        super(message, cause);
    }
}
