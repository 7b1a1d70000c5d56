package io.github.cellsparse;

/**
 * How far a segmentation by parts is.
 *
 * @param phase what is being done, in this order: {@code network} (nearly all of the time), {@code objects}, {@code output}
 * @param done parts done, those of a run that this one goes on from included
 * @param total parts in all
 * @param elapsed seconds since the run began
 * @param remaining estimated seconds until the phase ends
 */
public record LargeProgress(String phase, long done, long total, double elapsed, double remaining) {}
