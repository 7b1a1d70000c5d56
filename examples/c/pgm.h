/* Grey images in the PGM format (P5), 8 or 16 bit: just enough for the examples. */
#ifndef PGM_H
#define PGM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct pgm {
    size_t height, width;
    uint16_t *values;
} pgm;

/* Reads a file; values is NULL when it cannot be used. Free values with free(). */
static pgm pgm_read(const char *path) {
    pgm image = {0, 0, NULL};
    unsigned long width = 0, height = 0, highest = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return image;
    if (fscanf(file, "P5 %lu %lu %lu", &width, &height, &highest) == 3 && fgetc(file) != EOF && width > 0 && height > 0 &&
        width <= 65535 && height <= 65535 && highest > 0 && highest <= 65535) {
        size_t count = (size_t)width * height, i;
        uint16_t *values = malloc(count * sizeof *values);
        for (i = 0; values != NULL && i < count; i++) {
            int high = highest > 255 ? fgetc(file) : 0, low = fgetc(file);
            if (high == EOF || low == EOF) {
                free(values);
                values = NULL;
            } else {
                values[i] = (uint16_t)(high * 256 + low);
            }
        }
        image.values = values;
        image.height = (size_t)height;
        image.width = (size_t)width;
    }
    fclose(file);
    return image;
}

/* Writes 16-bit values; 0 on success. */
static int pgm_write(const char *path, size_t height, size_t width, const int32_t *values) {
    size_t i;
    int failed;
    FILE *file = fopen(path, "wb");
    if (file == NULL) return 1;
    fprintf(file, "P5\n%lu %lu\n65535\n", (unsigned long)width, (unsigned long)height);
    for (i = 0; i < height * width; i++) {
        fputc((int)(((uint32_t)values[i] >> 8) & 255), file);
        fputc((int)((uint32_t)values[i] & 255), file);
    }
    failed = ferror(file);
    return fclose(file) != 0 || failed;
}

#endif
