/** The QuPath extension: menus and windows, the builder for scripts, and QuPath behind the interfaces of {@code work}. */
package io.github.cellsparse.qupath;
