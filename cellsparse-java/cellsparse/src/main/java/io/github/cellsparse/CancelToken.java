package io.github.cellsparse;

import java.util.HashSet;
import java.util.Set;

/**
 * Stops work from any thread: a training at its next step, a prediction at its next tile. One token may stop many calls. It
 * cannot be lowered again.
 */
public final class CancelToken {
    private final Set<Long> running = new HashSet<>();
    private boolean cancelled;

    /** A token that is not raised. */
    public CancelToken() {}

    /** Asks all work that was given this token, now or later, to stop. */
    public synchronized void cancel() {
        cancelled = true;
        running.forEach(Native::cancelRaise);
    }

    /** Whether {@link #cancel} was called. */
    public synchronized boolean isCancelled() {
        return cancelled;
    }

    /** Passes cancellation on to a native handle until {@link #detach}. */
    synchronized void attach(long handle) {
        running.add(handle);
        if (cancelled) {
            Native.cancelRaise(handle);
        }
    }

    synchronized void detach(long handle) {
        running.remove(handle);
    }
}
