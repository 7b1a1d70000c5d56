package io.github.cellsparse;

/**
 * Something went wrong. The message says what was found, what was expected and what to do; the subclasses are the kinds of
 * {@code docs/errors.md}.
 */
public class CellsparseException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    CellsparseException(String message) {
        super(message);
    }

    /** An image has an unusable shape, type or content. */
    public static final class Image extends CellsparseException {
        private static final long serialVersionUID = 1L;

        Image(String message) {
            super(message);
        }
    }

    /** A label image or an annotation is unusable. */
    public static final class Labels extends CellsparseException {
        private static final long serialVersionUID = 1L;

        Labels(String message) {
            super(message);
        }
    }

    /** An option or a configuration value is unknown or outside its range. */
    public static final class Config extends CellsparseException {
        private static final long serialVersionUID = 1L;

        Config(String message) {
            super(message);
        }
    }

    /** A file or folder does not exist. */
    public static final class NotFound extends CellsparseException {
        private static final long serialVersionUID = 1L;

        NotFound(String message) {
            super(message);
        }
    }

    /** A file exists and cannot be used: damaged, of another format or of another version. */
    public static final class File extends CellsparseException {
        private static final long serialVersionUID = 1L;

        File(String message) {
            super(message);
        }
    }

    /** The operating system refused to read or write. */
    public static final class Io extends CellsparseException {
        private static final long serialVersionUID = 1L;

        Io(String message) {
            super(message);
        }
    }

    /** Weights do not fit the network that they are meant for. */
    public static final class Weights extends CellsparseException {
        private static final long serialVersionUID = 1L;

        Weights(String message) {
            super(message);
        }
    }

    /** The work would exceed a limit on memory, pixels or objects. */
    public static final class Limit extends CellsparseException {
        private static final long serialVersionUID = 1L;

        Limit(String message) {
            super(message);
        }
    }

    /** A device is absent or failed. */
    public static final class Device extends CellsparseException {
        private static final long serialVersionUID = 1L;

        Device(String message) {
            super(message);
        }
    }

    /** Training produced a value that is not finite; the model is as it was before. */
    public static final class Diverged extends CellsparseException {
        private static final long serialVersionUID = 1L;

        Diverged(String message) {
            super(message);
        }
    }

    /** A prediction was stopped before there was a result. */
    public static final class Cancelled extends CellsparseException {
        private static final long serialVersionUID = 1L;

        Cancelled(String message) {
            super(message);
        }
    }

    /** A model is in use by another call. */
    public static final class Busy extends CellsparseException {
        private static final long serialVersionUID = 1L;

        Busy(String message) {
            super(message);
        }
    }

    /** A defect of the library: please report it, with the message. */
    public static final class Internal extends CellsparseException {
        private static final long serialVersionUID = 1L;

        Internal(String message) {
            super(message);
        }
    }

    /** The native library cannot be loaded on this machine. */
    public static final class Unavailable extends CellsparseException {
        private static final long serialVersionUID = 1L;

        Unavailable(String message, Throwable cause) {
            super(message);
            initCause(cause);
        }
    }

    /** The exception of a status code of {@code cellsparse.h}. */
    static RuntimeException of(int status, String message) {
        switch (status) {
            case 1:
                return new Image(message);
            case 2:
                return new Labels(message);
            case 3:
                return new Config(message);
            case 4:
                return new NotFound(message);
            case 5:
                return new File(message);
            case 6:
                return new Io(message);
            case 7:
                return new Weights(message);
            case 8:
                return new Limit(message);
            case 9:
                return new Device(message);
            case 10:
                return new Diverged(message);
            case 11:
                return new Cancelled(message);
            case 20:
                return new NullPointerException(message);
            case 21:
                return new IllegalStateException(message);
            case 22:
                return new Busy(message);
            case 23:
                return new IllegalArgumentException(message);
            default:
                return new Internal(message);
        }
    }
}
