package io.github.cellsparse;

import java.lang.ref.Cleaner;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongConsumer;

/**
 * Owns a handle of the native library: freed once, by {@link #close} or when its owner is garbage.
 */
final class Handle {
    private static final Cleaner CLEANER = Cleaner.create();

    private final String name;
    private final State state;
    private final Cleaner.Cleanable cleanable;

    /** Must not refer to the owner, which would then never be garbage. */
    private static final class State implements Runnable {
        private final AtomicLong token;
        private final LongConsumer free;

        State(long token, LongConsumer free) {
            this.token = new AtomicLong(token);
            this.free = free;
        }

        @Override
        public void run() {
            long last = token.getAndSet(0);
            if (last != 0) {
                free.accept(last);
            }
        }
    }

    Handle(Object owner, String name, long token, LongConsumer free) {
        this.name = name;
        state = new State(token, free);
        cleanable = CLEANER.register(owner, state);
    }

    /**
     * The token.
     *
     * @throws IllegalStateException once it is closed
     */
    long token() {
        long token = state.token.get();
        if (token == 0) {
            throw new IllegalStateException("the " + name + " is closed");
        }
        return token;
    }

    boolean isClosed() {
        return state.token.get() == 0;
    }

    void close() {
        cleanable.clean();
    }
}
