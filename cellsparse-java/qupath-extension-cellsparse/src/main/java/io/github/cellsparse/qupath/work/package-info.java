/**
 * What the extension does, without a type of QuPath or JavaFX: it reads parts of slides, trains, segments by tiles, talks to a
 * server and keeps models. QuPath is behind {@link io.github.cellsparse.qupath.work.Slide},
 * {@link io.github.cellsparse.qupath.work.Subject} and {@link io.github.cellsparse.qupath.work.Monitor}.
 */
package io.github.cellsparse.qupath.work;
