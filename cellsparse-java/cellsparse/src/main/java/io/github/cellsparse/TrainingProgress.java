package io.github.cellsparse;

import java.util.Map;
import java.util.OptionalDouble;

/**
 * One event of a running training.
 *
 * @param step optimiser steps done, from 1
 * @param totalSteps optimiser steps asked for
 * @param epoch validation period the step belongs to, from 1
 * @param loss weighted total loss of this step's batch
 * @param losses the parts of the loss by name, unweighted, in a fixed order
 * @param validationLoss validation loss, in the event of the step after which it was measured
 * @param learningRate learning rate of this step
 * @param elapsed seconds since training began
 * @param remaining estimated seconds until training ends
 */
public record TrainingProgress(
        long step,
        long totalSteps,
        long epoch,
        double loss,
        Map<String, Double> losses,
        OptionalDouble validationLoss,
        double learningRate,
        double elapsed,
        double remaining) {}
