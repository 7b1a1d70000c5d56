/* Trains a network on one annotated image and segments another one.
 *
 *   train_and_predict ALGORITHM OPTIONS SEED IMAGE.pgm LABELS.pgm UNSEEN.pgm LABELS_OUT.pgm MODEL_OUT
 *
 * OPTIONS is a JSON object such as {"steps": 200}. LABELS.pgm: 0 unlabelled, 1 background, 2 and up cells.
 */
#include <stdio.h>
#include <stdlib.h>

#include <cellsparse.h>

#include "pgm.h"

/* Says what went wrong; every call of the library goes through here. */
static int ok(cellsparse_status status, const char *what) {
    if (status == CELLSPARSE_STATUS_OK) return 1;
    fprintf(stderr, "%s: %s (status %d)\n", what, cellsparse_last_error_message(), (int)status);
    return 0;
}

static int show(void *userdata, const cellsparse_progress *progress) {
    (void)userdata;
    fprintf(stderr, "step %lu of %lu: loss %.4f\n", (unsigned long)progress->step, (unsigned long)progress->total_steps,
            (double)progress->loss);
    return 0; /* anything else stops the training */
}

static cellsparse_image view_image(const pgm *pixels) {
    cellsparse_image view = {0}; /* strides of 0: rows without gaps */
    view.data = pixels->values;
    view.size = pixels->height * pixels->width * sizeof *pixels->values;
    view.dtype = CELLSPARSE_DTYPE_U16;
    view.height = pixels->height;
    view.width = pixels->width;
    view.channels = 1;
    return view;
}

static cellsparse_labels view_labels(const pgm *pixels) {
    cellsparse_labels view = {0};
    view.data = pixels->values;
    view.size = pixels->height * pixels->width * sizeof *pixels->values;
    view.dtype = CELLSPARSE_DTYPE_U16;
    view.encoding = CELLSPARSE_ENCODING_WIRE;
    view.height = pixels->height;
    view.width = pixels->width;
    return view;
}

/* Trains `model` on one pair and saves it. */
static int train(cellsparse_model *model, const char *options, const pgm *image, const pgm *labels, const char *path) {
    cellsparse_dataset *dataset = NULL;
    cellsparse_training_summary summary;
    cellsparse_image pixels = view_image(image);
    cellsparse_labels annotation = view_labels(labels);
    int good = ok(cellsparse_dataset_new(&dataset), "dataset") &&
               ok(cellsparse_dataset_add(dataset, &pixels, &annotation), "training image") &&
               ok(cellsparse_model_train(model, dataset, NULL, options, NULL, show, NULL, &summary), "training") &&
               ok(cellsparse_model_save(model, path), "saving");
    if (good) printf("trained %lu steps on %s, loss %.4f\n", (unsigned long)summary.steps, summary.device, (double)summary.loss);
    cellsparse_dataset_free(dataset);
    return good;
}

/* Segments an image and writes its label image. */
static int predict(const cellsparse_model *model, const pgm *image, const char *path) {
    cellsparse_segmentation *found = NULL;
    cellsparse_image pixels = view_image(image);
    size_t count = 0, size = image->height * image->width;
    int32_t *labels = malloc(size * sizeof *labels);
    int good = labels != NULL && ok(cellsparse_model_predict(model, &pixels, NULL, NULL, &found), "prediction") &&
               ok(cellsparse_segmentation_object_count(found, &count), "objects") &&
               ok(cellsparse_segmentation_labels(found, labels, size), "labels") &&
               pgm_write(path, image->height, image->width, labels) == 0;
    if (good) printf("%lu objects\n", (unsigned long)count);
    cellsparse_segmentation_free(found);
    free(labels);
    return good;
}

int main(int argc, char **argv) {
    cellsparse_model *model = NULL;
    pgm image, labels, unseen;
    int good;
    if (argc != 9) {
        fprintf(stderr, "usage: %s ALGORITHM OPTIONS SEED IMAGE.pgm LABELS.pgm UNSEEN.pgm LABELS_OUT.pgm MODEL_OUT\n", argv[0]);
        return 2;
    }
    if (cellsparse_abi_version() != CELLSPARSE_ABI_VERSION) {
        fprintf(stderr, "the library and its header do not belong together\n");
        return 1;
    }
    image = pgm_read(argv[4]);
    labels = pgm_read(argv[5]);
    unseen = pgm_read(argv[6]);
    good = image.values != NULL && labels.values != NULL && unseen.values != NULL;
    if (!good) fprintf(stderr, "an image cannot be read\n");
    good = good && ok(cellsparse_model_new(argv[1], NULL, strtoull(argv[3], NULL, 10), &model), "model") &&
           train(model, argv[2], &image, &labels, argv[8]) && predict(model, &unseen, argv[7]);
    cellsparse_model_free(model);
    free(image.values);
    free(labels.values);
    free(unseen.values);
    return good ? 0 : 1;
}
