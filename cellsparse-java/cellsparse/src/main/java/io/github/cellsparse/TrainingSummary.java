package io.github.cellsparse;

import java.util.List;

/**
 * What a training did.
 *
 * @param steps optimiser steps done
 * @param seconds wall time of the steps and validations
 * @param secondsPerStep {@code seconds / steps}
 * @param loss loss of the last step
 * @param stopped why it ended
 * @param device device that did the work
 * @param begun what it began with: {@code random} weights, the {@code starter} in the library, or a trained {@code model}
 * @param kept whose weights the model has now: the {@code trained} ones, or those of the {@code start} where these segment what
 *     was drawn better
 * @param notes what else a user should know, a sentence each
 */
public record TrainingSummary(
        long steps,
        double seconds,
        double secondsPerStep,
        double loss,
        StopReason stopped,
        String device,
        String begun,
        String kept,
        List<String> notes) {

    /** Why a training ended. */
    public enum StopReason {
        /** All steps are done. */
        FINISHED(0),
        /** The validation loss no longer went down, or without validation that of the training. */
        NO_IMPROVEMENT(1),
        /** The time budget is used up. */
        TIME_BUDGET(2),
        /** The listener, a token or {@link Model#close} asked for it. */
        CANCELLED(3);

        private final int number;

        StopReason(int number) {
            this.number = number;
        }

        /** The reason of a number of the native library. */
        static StopReason of(int number) {
            for (StopReason reason : values()) {
                if (reason.number == number) {
                    return reason;
                }
            }
            throw new IllegalStateException("the native library gave the unknown stop reason " + number);
        }
    }
}
