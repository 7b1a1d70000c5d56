/* Everything that a program can do wrong with the library, and what it gets for it. Ends with status 0 and "passed".
 *
 * Run plain, under address and undefined-behaviour sanitizers, and under valgrind. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cellsparse.h>

/* Only in libraries with debug assertions; RELEASE is defined for those without. */
#ifndef RELEASE
cellsparse_status cellsparse_test_panic(void);
#endif

static int failures = 0;

#define EXPECT(status, expected)                                                                          \
    do {                                                                                                  \
        cellsparse_status got_ = (status);                                                                \
        if (got_ != (expected)) {                                                                         \
            fprintf(stderr, "line %d: %s gave %d, expected %d: %s\n", __LINE__, #status, (int)got_,       \
                    (int)(expected), cellsparse_last_error_message());                                    \
            failures++;                                                                                   \
        }                                                                                                 \
    } while (0)

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition);     \
            failures++;                                                         \
        }                                                                       \
    } while (0)

#define OK CELLSPARSE_STATUS_OK
#define NULL_POINTER CELLSPARSE_STATUS_NULL_POINTER
#define INVALID_HANDLE CELLSPARSE_STATUS_INVALID_HANDLE
#define INVALID_ARGUMENT CELLSPARSE_STATUS_INVALID_ARGUMENT

enum { SIDE = 32, SIZE = SIDE * SIDE };
static const char *const TINY = "{\"n_rays\": 8, \"n_filter_base\": 4, \"n_depth\": 2, \"net_conv_after_unet\": 8}";
static const char *const SHORT = "{\"steps\": 2, \"batch_size\": 1, \"patch_size\": 16, \"threads\": 1, \"device\": \"cpu\"}";

static uint8_t pixels[SIZE];
static int32_t annotation[SIZE];

static void draw(void) {
    int y, x;
    for (y = 0; y < SIDE; y++) {
        for (x = 0; x < SIDE; x++) {
            int first = (y - 9) * (y - 9) + (x - 9) * (x - 9), second = (y - 22) * (y - 22) + (x - 21) * (x - 21);
            pixels[y * SIDE + x] = (uint8_t)(20 + (y * 7 + x * 13) % 11 + (first < 30 || second < 30 ? 120 : 0));
            annotation[y * SIDE + x] = first < 30 ? 1 : second < 30 ? 2 : first < 80 ? 0 : -1;
        }
    }
}

static cellsparse_image an_image(void) {
    cellsparse_image image = {0};
    image.data = pixels;
    image.size = sizeof pixels;
    image.dtype = CELLSPARSE_DTYPE_U8;
    image.height = SIDE;
    image.width = SIDE;
    image.channels = 1;
    return image;
}

static cellsparse_labels some_labels(void) {
    cellsparse_labels labels = {0};
    labels.data = annotation;
    labels.size = sizeof annotation;
    labels.dtype = CELLSPARSE_DTYPE_I32;
    labels.encoding = CELLSPARSE_ENCODING_SIGNED;
    labels.height = SIDE;
    labels.width = SIDE;
    return labels;
}

static void nulls_are_refused(void) {
    cellsparse_model *model = NULL;
    cellsparse_dataset *dataset = NULL;
    cellsparse_cancel *cancel = NULL;
    cellsparse_image image = an_image(), no_data = an_image();
    cellsparse_labels labels = some_labels(), no_labels = some_labels();
    cellsparse_scores scores;
    const char *text = "untouched";
    double threshold = 0.5;
    size_t count = 7;

    no_data.data = NULL;
    no_labels.data = NULL;
    EXPECT(cellsparse_model_new(NULL, NULL, 0, &model), NULL_POINTER);
    EXPECT(cellsparse_model_new("stardist", NULL, 0, NULL), NULL_POINTER);
    EXPECT(cellsparse_model_load(NULL, &model), NULL_POINTER);
    CHECK(model == NULL);
    EXPECT(cellsparse_model_info(NULL, &text), NULL_POINTER);
    CHECK(strcmp(text, "untouched") == 0);
    EXPECT(cellsparse_dataset_new(NULL), NULL_POINTER);
    EXPECT(cellsparse_cancel_new(NULL), NULL_POINTER);
    EXPECT(cellsparse_devices(NULL), NULL_POINTER);
    EXPECT(cellsparse_model_new("stardist", TINY, 0, &model), OK);
    EXPECT(cellsparse_dataset_new(&dataset), OK);
    EXPECT(cellsparse_cancel_new(&cancel), OK);
    EXPECT(cellsparse_dataset_add(NULL, &image, &labels), NULL_POINTER);
    EXPECT(cellsparse_dataset_add(dataset, NULL, &labels), NULL_POINTER);
    EXPECT(cellsparse_dataset_add(dataset, &image, NULL), NULL_POINTER);
    EXPECT(cellsparse_dataset_add(dataset, &no_data, &labels), NULL_POINTER);
    EXPECT(cellsparse_dataset_add(dataset, &image, &no_labels), NULL_POINTER);
    EXPECT(cellsparse_dataset_add_polygons(dataset, &image, NULL, 1), NULL_POINTER);
    EXPECT(cellsparse_dataset_size(dataset, NULL), NULL_POINTER);
    EXPECT(cellsparse_dataset_size(dataset, &count), OK);
    CHECK(count == 0);
    EXPECT(cellsparse_model_train(NULL, dataset, NULL, NULL, NULL, NULL, NULL, NULL), NULL_POINTER);
    EXPECT(cellsparse_model_train(model, NULL, NULL, NULL, NULL, NULL, NULL, NULL), NULL_POINTER);
    EXPECT(cellsparse_model_train(model, dataset, NULL, NULL, NULL, NULL, NULL, NULL), CELLSPARSE_STATUS_IMAGE);
    EXPECT(cellsparse_model_predict(model, NULL, NULL, NULL, NULL), NULL_POINTER);
    EXPECT(cellsparse_model_save(model, NULL), NULL_POINTER);
    EXPECT(cellsparse_cancel_raise(NULL), NULL_POINTER);
    EXPECT(cellsparse_cancel_is_raised(cancel, NULL), NULL_POINTER);
    EXPECT(cellsparse_matching(NULL, &labels, 0.5, &scores), NULL_POINTER);
    EXPECT(cellsparse_matching_dataset(&labels, &labels, 1, &threshold, 1, 0, NULL), NULL_POINTER);
    EXPECT(cellsparse_labels_geojson(&labels, NULL, NULL), NULL_POINTER);
    EXPECT(cellsparse_segmentation_labels(NULL, NULL, 0), NULL_POINTER);
    EXPECT(cellsparse_outlines_size(NULL, &count, &count), NULL_POINTER);
    EXPECT(cellsparse_model_free(NULL), OK);
    EXPECT(cellsparse_string_free(NULL), OK);
    EXPECT(cellsparse_cancel_free(cancel), OK);
    EXPECT(cellsparse_dataset_free(dataset), OK);
    EXPECT(cellsparse_model_free(model), OK);
}

static void wrong_handles_are_refused(void) {
    cellsparse_model *model = NULL, *stranger;
    cellsparse_dataset *dataset = NULL;
    const char *text = NULL;
    int local = 0;

    EXPECT(cellsparse_model_new("stardist", TINY, 0, &model), OK);
    EXPECT(cellsparse_dataset_new(&dataset), OK);
    memcpy(&stranger, &dataset, sizeof stranger); /* a handle of another type */
    EXPECT(cellsparse_model_reset(stranger, 1), INVALID_HANDLE);
    EXPECT(cellsparse_model_free(stranger), INVALID_HANDLE);
    stranger = (cellsparse_model *)(void *)&local; /* no handle at all */
    EXPECT(cellsparse_model_free(stranger), INVALID_HANDLE);
    EXPECT(cellsparse_model_info(model, &text), OK);
    CHECK(strstr(text, "\"algorithm\":\"stardist\"") != NULL);
    EXPECT(cellsparse_string_free(text), OK);
    EXPECT(cellsparse_string_free(text), INVALID_HANDLE);
    EXPECT(cellsparse_string_free("my own"), INVALID_HANDLE);
    EXPECT(cellsparse_model_free(model), OK);
    EXPECT(cellsparse_model_free(model), INVALID_HANDLE);
    CHECK(strstr(cellsparse_last_error_message(), "freed before") != NULL);
    EXPECT(cellsparse_model_reset(model, 0), INVALID_HANDLE);
    EXPECT(cellsparse_model_info(model, &text), INVALID_HANDLE);
    EXPECT(cellsparse_dataset_free(dataset), OK);
    EXPECT(cellsparse_dataset_free(dataset), INVALID_HANDLE);
}

static void wrong_sizes_are_refused(void) {
    cellsparse_dataset *dataset = NULL;
    cellsparse_image image = an_image();
    cellsparse_labels labels = some_labels();
    cellsparse_polygon polygon = {0};
    double corners[6] = {0, 0, 8, 0, 8, 8};
    int32_t drawn[SIZE];
    char not_utf8[] = {'{', (char)0xff, '}', 0};
    cellsparse_model *model = NULL;

    EXPECT(cellsparse_dataset_new(&dataset), OK);
    image.size--;
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), INVALID_ARGUMENT);
    image = an_image();
    image.dtype = 9;
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), INVALID_ARGUMENT);
    image = an_image();
    image.height = SIZE_MAX;
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), INVALID_ARGUMENT);
    image = an_image();
    image.size = SIZE_MAX;
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), INVALID_ARGUMENT);
    image = an_image();
    image.width = 0;
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), CELLSPARSE_STATUS_IMAGE);
    image = an_image();
    image.offset = 1;
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), INVALID_ARGUMENT);
    image = an_image();
    image.row_stride = -SIDE;
    image.column_stride = 1;
    image.channel_stride = 1;
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), INVALID_ARGUMENT);
    image.offset = SIZE - SIDE; /* bottom-up is fine */
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), OK);
    image = an_image();
    image.height = image.width = SIZE / 2;
    image.row_stride = image.column_stride = image.channel_stride = 1; /* within the buffer, many times over */
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), INVALID_ARGUMENT);
    image = an_image();
    image.height = SIDE / 2;
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), CELLSPARSE_STATUS_LABELS);
    image = an_image();
    labels.encoding = 7;
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), INVALID_ARGUMENT);
    labels = some_labels();
    labels.dtype = CELLSPARSE_DTYPE_F32;
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), INVALID_ARGUMENT);
    labels = some_labels();
    labels.encoding = CELLSPARSE_ENCODING_DENSE; /* has values below 0 */
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), CELLSPARSE_STATUS_LABELS);

    polygon.points = corners;
    polygon.n_points = 3;
    EXPECT(cellsparse_polygons_to_labels(&polygon, 1, SIDE, SIDE, drawn, SIZE), INVALID_ARGUMENT); /* no kind */
    polygon.kind = CELLSPARSE_POLYGON_KIND_FOREGROUND;
    EXPECT(cellsparse_polygons_to_labels(&polygon, 1, SIDE, SIDE, drawn, SIZE), OK);
    CHECK(drawn[3] == 1 && drawn[SIDE * 7] == -1);
    EXPECT(cellsparse_polygons_to_labels(&polygon, 1, SIDE, SIDE, drawn, SIZE - 1), INVALID_ARGUMENT);
    EXPECT(cellsparse_polygons_to_labels(&polygon, 1, SIZE_MAX, 2, drawn, SIZE), INVALID_ARGUMENT);
    EXPECT(cellsparse_polygons_to_labels(NULL, 0, SIZE_MAX / 8, 1, NULL, SIZE_MAX / 8), NULL_POINTER); /* before any work */
    polygon.n_points = 2;
    EXPECT(cellsparse_polygons_to_labels(&polygon, 1, SIDE, SIDE, drawn, SIZE), CELLSPARSE_STATUS_LABELS);
    polygon.n_points = SIZE_MAX;
    EXPECT(cellsparse_polygons_to_labels(&polygon, 1, SIDE, SIDE, drawn, SIZE), CELLSPARSE_STATUS_LABELS);

    EXPECT(cellsparse_model_new("stardist", not_utf8, 0, &model), INVALID_ARGUMENT);
    EXPECT(cellsparse_model_new("unet", NULL, 0, &model), CELLSPARSE_STATUS_CONFIG);
    EXPECT(cellsparse_model_new("stardist", "{\"rays\": 3}", 0, &model), CELLSPARSE_STATUS_CONFIG);
    EXPECT(cellsparse_model_load("no/such/file", &model), CELLSPARSE_STATUS_NOT_FOUND);
    CHECK(model == NULL);
    EXPECT(cellsparse_dataset_free(dataset), OK);
}

/* What the observer of the test below does, and what it saw. */
typedef struct witness {
    cellsparse_model *model;
    cellsparse_cancel *cancel;
    int stop, calls;
    cellsparse_status inside;
} witness;

static int watch(void *userdata, const cellsparse_progress *progress) {
    witness *seen = userdata;
    const char *text = NULL;
    seen->calls++;
    seen->inside = cellsparse_model_info(seen->model, &text); /* it is being trained */
    CHECK(progress->step == (uint64_t)seen->calls && progress->total_steps == 2 && isfinite(progress->loss));
    CHECK(progress->n_losses > 0 && strlen(progress->losses[0].name) > 0 && isnan(progress->validation_loss));
    if (seen->cancel != NULL) EXPECT(cellsparse_cancel_raise(seen->cancel), OK);
    return seen->stop;
}

static void callbacks_can_stop_and_cannot_break_in(void) {
    cellsparse_dataset *dataset = NULL;
    cellsparse_cancel *cancel = NULL;
    cellsparse_training_summary summary;
    cellsparse_segmentation *found = NULL;
    cellsparse_image image = an_image();
    cellsparse_labels labels = some_labels();
    witness seen = {0};
    int32_t raised = -1;

    EXPECT(cellsparse_dataset_new(&dataset), OK);
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), OK);
    EXPECT(cellsparse_model_new("stardist", TINY, 3, &seen.model), OK);
    EXPECT(cellsparse_model_train(seen.model, dataset, NULL, "{\"steps\": 0}", NULL, watch, &seen, &summary), CELLSPARSE_STATUS_CONFIG);
    CHECK(seen.calls == 0);
    EXPECT(cellsparse_model_train(seen.model, dataset, NULL, SHORT, NULL, watch, &seen, &summary), OK);
    CHECK(seen.calls == 2 && seen.inside == CELLSPARSE_STATUS_BUSY);
    CHECK(summary.steps == 2 && summary.stopped == CELLSPARSE_STOP_REASON_FINISHED && strcmp(summary.device, "cpu") == 0);
    seen.calls = 0;
    seen.stop = 1;
    EXPECT(cellsparse_model_train(seen.model, dataset, dataset, SHORT, NULL, watch, &seen, &summary), OK);
    CHECK(seen.calls == 1 && summary.steps == 1 && summary.stopped == CELLSPARSE_STOP_REASON_CANCELLED);

    EXPECT(cellsparse_cancel_new(&cancel), OK);
    seen.calls = 0;
    seen.stop = 0;
    seen.cancel = cancel;
    EXPECT(cellsparse_model_train(seen.model, dataset, NULL, SHORT, cancel, watch, &seen, &summary), OK);
    CHECK(seen.calls == 1 && summary.stopped == CELLSPARSE_STOP_REASON_CANCELLED);
    EXPECT(cellsparse_cancel_is_raised(cancel, &raised), OK);
    CHECK(raised == 1);
    EXPECT(cellsparse_model_predict(seen.model, &image, NULL, cancel, &found), CELLSPARSE_STATUS_CANCELLED);
    CHECK(found == NULL);
    EXPECT(cellsparse_cancel_free(cancel), OK);
    EXPECT(cellsparse_model_predict(seen.model, &image, NULL, cancel, &found), INVALID_HANDLE);
    EXPECT(cellsparse_dataset_free(dataset), OK);
    EXPECT(cellsparse_model_free(seen.model), OK);
}

static void results_come_out_whole(void) {
    cellsparse_dataset *dataset = NULL;
    cellsparse_model *model = NULL;
    cellsparse_segmentation *found = NULL;
    cellsparse_outlines *outlines = NULL;
    cellsparse_image image = an_image(), thin = an_image();
    cellsparse_labels labels = some_labels();
    cellsparse_scores scores;
    cellsparse_object object;
    size_t height = 0, width = 0, count = 0, n_rings = 0, n_points = 0, i;
    int32_t values[SIZE];
    const char *text = NULL;

    EXPECT(cellsparse_dataset_new(&dataset), OK);
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), OK);
    EXPECT(cellsparse_model_new("stardist", TINY, 3, &model), OK);
    EXPECT(cellsparse_model_train(model, dataset, NULL, SHORT, NULL, NULL, NULL, NULL), OK);
    thin.channels = 2;
    thin.width = SIDE / 2;
    EXPECT(cellsparse_model_predict(model, &thin, NULL, NULL, &found), CELLSPARSE_STATUS_IMAGE);
    EXPECT(cellsparse_model_predict(model, &image, "{\"prob_thresh\": 2}", NULL, &found), CELLSPARSE_STATUS_CONFIG);
    EXPECT(cellsparse_model_predict(model, &image, "{\"device\": \"cuda:99\"}", NULL, &found), CELLSPARSE_STATUS_DEVICE);
    EXPECT(cellsparse_model_predict(model, &image, "{\"prob_thresh\": 0.01, \"threads\": 1}", NULL, &found), OK);
    EXPECT(cellsparse_segmentation_shape(found, &height, &width), OK);
    CHECK(height == SIDE && width == SIDE);
    EXPECT(cellsparse_segmentation_labels(found, values, SIZE - 1), INVALID_ARGUMENT);
    EXPECT(cellsparse_segmentation_labels(found, values, SIZE), OK);
    EXPECT(cellsparse_segmentation_object_count(found, &count), OK);
    for (i = 0; i < count; i++) {
        double *points;
        EXPECT(cellsparse_segmentation_object(found, i, &object), OK);
        CHECK(object.id > 0 && object.probability > 0 && object.n_points == 8 && object.object_class == -1);
        points = malloc(2 * object.n_points * sizeof *points);
        EXPECT(cellsparse_segmentation_polygon(found, i, points, object.n_points), INVALID_ARGUMENT);
        EXPECT(cellsparse_segmentation_polygon(found, i, points, 2 * object.n_points), OK);
        CHECK(isfinite(points[2 * object.n_points - 1]));
        free(points);
    }
    EXPECT(cellsparse_segmentation_object(found, count, &object), INVALID_ARGUMENT);
    EXPECT(cellsparse_segmentation_geojson(found, NULL, &text), OK);
    CHECK(text[0] == '[');
    EXPECT(cellsparse_string_free(text), OK);

    EXPECT(cellsparse_labels_outlines(&labels, "{\"outline\": \"exact\"}", &outlines), OK);
    EXPECT(cellsparse_outlines_size(outlines, &n_rings, &n_points), OK);
    CHECK(n_rings == 2 && n_points > 8);
    {
        cellsparse_ring rings[2];
        double *points = malloc(2 * n_points * sizeof *points);
        EXPECT(cellsparse_outlines_copy(outlines, rings, 1, points, 2 * n_points), INVALID_ARGUMENT);
        EXPECT(cellsparse_outlines_copy(outlines, rings, 2, NULL, 2 * n_points), NULL_POINTER);
        rings[0].id = -7;
        EXPECT(cellsparse_outlines_copy(outlines, rings, 2, (double *)((char *)points + 1), 2 * n_points), INVALID_ARGUMENT);
        CHECK(rings[0].id == -7);
        EXPECT(cellsparse_outlines_copy(outlines, rings, 2, points, 2 * n_points), OK);
        CHECK(rings[0].id == 1 && rings[1].id == 2 && rings[1].first_point == rings[0].n_points);
        CHECK(rings[1].first_point + rings[1].n_points == n_points && rings[1].part == 0 && rings[1].hole == 0);
        CHECK(points[0] == points[2 * rings[0].n_points - 2]);
        free(points);
    }
    EXPECT(cellsparse_labels_outlines(&labels, "{\"outline\": \"round\"}", &outlines), CELLSPARSE_STATUS_CONFIG);
    EXPECT(cellsparse_matching(&labels, &labels, 0.5, &scores), CELLSPARSE_STATUS_LABELS); /* predictions have no -1 */
    for (i = 0; i < SIZE; i++) values[i] = annotation[i] < 0 ? 0 : annotation[i];
    {
        cellsparse_labels predicted = some_labels();
        double thresholds[2] = {0.5, 0.9};
        cellsparse_scores both[2];
        predicted.data = values;
        EXPECT(cellsparse_matching(&labels, &predicted, 0.5, &scores), OK);
        CHECK(scores.tp == 2 && scores.fn == 0 && scores.fp == 0 && scores.f1 == 1.0 && scores.n_true == 2);
        EXPECT(cellsparse_matching_dataset(&labels, &predicted, 1, thresholds, 2, 0, both), OK);
        CHECK(both[0].tp == 2 && both[1].thresh == 0.9);
        EXPECT(cellsparse_matching_dataset(NULL, NULL, 0, thresholds, 2, 0, both), CELLSPARSE_STATUS_LABELS);
    }
    EXPECT(cellsparse_dataset_advice(dataset, &text), OK);
    EXPECT(cellsparse_string_free(text), OK);
    EXPECT(cellsparse_model_history(model, &text), OK);
    CHECK(strstr(text, "\"loss\":[") != NULL);
    EXPECT(cellsparse_string_free(text), OK);
    EXPECT(cellsparse_devices(&text), OK);
    CHECK(strstr(text, "\"cpu\"") != NULL);
    EXPECT(cellsparse_string_free(text), OK);
    EXPECT(cellsparse_model_reset(model, 9), OK);
    EXPECT(cellsparse_outlines_free(outlines), OK);
    EXPECT(cellsparse_segmentation_free(found), OK);
    EXPECT(cellsparse_dataset_free(dataset), OK);
    EXPECT(cellsparse_model_free(model), OK);
}

static void notes_and_pixel_sizes_are_told(void) {
    cellsparse_model *model = NULL;
    cellsparse_dataset *dataset = NULL;
    cellsparse_segmentation *found = NULL;
    cellsparse_image image = an_image();
    cellsparse_labels labels = some_labels();
    static uint8_t dark[SIZE];
    const char *text = NULL;

    EXPECT(cellsparse_dataset_new(&dataset), OK);
    EXPECT(cellsparse_choose_algorithm(dataset, NULL, NULL, &text), CELLSPARSE_STATUS_IMAGE);
    EXPECT(cellsparse_choose_algorithm(dataset, "{\"algorithm\": \"auto\"}", NULL, &text), CELLSPARSE_STATUS_CONFIG);
    EXPECT(cellsparse_choose_algorithm(dataset, NULL, NULL, NULL), NULL_POINTER);
    EXPECT(cellsparse_dataset_set_pixel_size(dataset, 0, 0.5, 0.5), INVALID_ARGUMENT);
    EXPECT(cellsparse_dataset_add(dataset, &image, &labels), OK);
    EXPECT(cellsparse_dataset_set_pixel_size(dataset, 0, 0.5, 0.0), INVALID_ARGUMENT);
    EXPECT(cellsparse_dataset_set_pixel_size(dataset, 1, 0.5, 0.5), INVALID_ARGUMENT);
    EXPECT(cellsparse_dataset_set_pixel_size(dataset, 0, 0.5, 0.5), OK);
    EXPECT(cellsparse_model_new("stardist", TINY, 0, &model), OK);
    EXPECT(cellsparse_model_last_training(model, &text), OK);
    CHECK(strcmp(text, "null") == 0);
    EXPECT(cellsparse_string_free(text), OK);
    EXPECT(cellsparse_model_train(model, dataset, NULL, SHORT, NULL, NULL, NULL, NULL), OK);
    EXPECT(cellsparse_model_last_training(model, &text), OK);
    CHECK(strstr(text, "\"begun\":\"") != NULL && strstr(text, "\"kept\":\"") != NULL && strstr(text, "\"notes\":[") != NULL);
    EXPECT(cellsparse_string_free(text), OK);
    EXPECT(cellsparse_model_info(model, &text), OK);
    CHECK(strstr(text, "\"pixel_size\":[0.5,0.5]") != NULL);
    EXPECT(cellsparse_string_free(text), OK);
    image.data = dark;
    EXPECT(cellsparse_model_predict(model, &image, NULL, NULL, &found), OK);
    EXPECT(cellsparse_segmentation_notes(found, NULL), NULL_POINTER);
    EXPECT(cellsparse_segmentation_notes(found, &text), OK);
    CHECK(strstr(text, "[\"nothing found: ") == text);
    EXPECT(cellsparse_string_free(text), OK);
    EXPECT(cellsparse_segmentation_free(found), OK);
    image.data = pixels;
    EXPECT(cellsparse_model_predict(model, &image, "{\"pixel_size\": 0.25}", NULL, &found), OK);
    EXPECT(cellsparse_segmentation_notes(found, &text), OK);
    CHECK(strstr(text, "seen at 0.5 times") != NULL || strstr(text, "nothing found") != NULL);
    EXPECT(cellsparse_string_free(text), OK);
    EXPECT(cellsparse_segmentation_free(found), OK);
    EXPECT(cellsparse_model_predict(model, &image, "{\"pixel_size\": 0}", NULL, &found), CELLSPARSE_STATUS_CONFIG);
    EXPECT(cellsparse_dataset_free(dataset), OK);
    EXPECT(cellsparse_model_free(model), OK);
}

/* An image that is seen by parts, and what came of it. */
typedef struct by_parts {
    int32_t labels[SIZE];
    int reads, writes, events, read_answer, write_answer, observer_answer;
} by_parts;

static int32_t read_part(void *userdata, size_t level, const cellsparse_region *region, void *samples, size_t size) {
    by_parts *seen = userdata;
    uint8_t *to = samples;
    size_t y, x;
    CHECK(level == 0 && size == region->height * region->width);
    CHECK(region->top + region->height <= SIDE && region->left + region->width <= SIDE);
    for (y = 0; y < region->height; y++) {
        for (x = 0; x < region->width; x++) {
            to[y * region->width + x] = pixels[(region->top + y) * SIDE + region->left + x];
        }
    }
    seen->reads++;
    return seen->read_answer;
}

static int32_t write_part(void *userdata, const cellsparse_region *region, const int32_t *labels) {
    by_parts *seen = userdata;
    size_t y, x;
    for (y = 0; y < region->height; y++) {
        for (x = 0; x < region->width; x++) {
            seen->labels[(region->top + y) * SIDE + region->left + x] = labels[y * region->width + x];
        }
    }
    seen->writes++;
    return seen->write_answer;
}

static int32_t see_part(void *userdata, const cellsparse_large_progress *progress) {
    by_parts *seen = userdata;
    CHECK(progress->done <= progress->total && strlen(progress->phase) > 0);
    seen->events++;
    return seen->observer_answer;
}

/* Parts of an image, its labels and its progress go through functions of the caller, and make what the whole image makes. */
static void images_are_segmented_by_parts(void) {
    static by_parts seen;
    static int32_t whole[SIZE];
    const char *loose = "{\"prob_thresh\": 0.01, \"threads\": 1, \"skip_empty\": false}";
    const char *text = NULL;
    cellsparse_extent level = {SIDE, SIDE}, none = {0, SIDE};
    cellsparse_regions regions = {0}, wrong;
    cellsparse_image image = an_image();
    cellsparse_model *model = NULL;
    cellsparse_segmentation *found = NULL;
    cellsparse_cancel *cancel = NULL;

    regions.levels = &level;
    regions.n_levels = 1;
    regions.channels = 1;
    regions.dtype = CELLSPARSE_DTYPE_U8;
    regions.pixel_size[0] = regions.pixel_size[1] = 0.5;
    regions.read = read_part;
    EXPECT(cellsparse_model_new("stardist", TINY, 0, &model), OK);
    EXPECT(cellsparse_model_predict(model, &image, "{\"prob_thresh\": 0.01, \"threads\": 1}", NULL, &found), OK);
    EXPECT(cellsparse_segmentation_labels(found, whole, SIZE), OK);
    EXPECT(cellsparse_segmentation_free(found), OK);

    EXPECT(cellsparse_model_predict_large(model, NULL, &regions, loose, NULL, write_part, see_part, &seen, &text), OK);
    CHECK(memcmp(seen.labels, whole, sizeof whole) == 0);
    CHECK(seen.reads > 0 && seen.writes > 0 && seen.events > 0);
    CHECK(strstr(text, "\"shape\":[32,32]") != NULL && strstr(text, "\"pixel_size\":[0.5,0.5]") != NULL);
    EXPECT(cellsparse_string_free(text), OK);
    EXPECT(cellsparse_model_predict_large(model, NULL, &regions, loose, NULL, NULL, NULL, &seen, &text), OK);
    EXPECT(cellsparse_string_free(text), OK);

    EXPECT(cellsparse_model_predict_large(model, NULL, &regions, loose, NULL, NULL, NULL, &seen, NULL), NULL_POINTER);
    EXPECT(cellsparse_model_predict_large(NULL, NULL, &regions, loose, NULL, NULL, NULL, &seen, &text), NULL_POINTER);
    EXPECT(cellsparse_model_predict_large(model, NULL, NULL, loose, NULL, NULL, NULL, &seen, &text), INVALID_ARGUMENT);
    EXPECT(cellsparse_model_predict_large(model, "a.tif", &regions, loose, NULL, NULL, NULL, &seen, &text), INVALID_ARGUMENT);
    EXPECT(cellsparse_model_predict_large(model, "no such.tif", NULL, loose, NULL, NULL, NULL, &seen, &text), CELLSPARSE_STATUS_NOT_FOUND);
    EXPECT(cellsparse_model_predict_large(model, NULL, &regions, "{\"level\": 1}", NULL, NULL, NULL, &seen, &text), CELLSPARSE_STATUS_CONFIG);
    EXPECT(cellsparse_model_predict_large(model, NULL, &regions, "{\"outputs\": [\"a.png\"]}", NULL, NULL, NULL, &seen, &text), CELLSPARSE_STATUS_CONFIG);
    wrong = regions;
    wrong.read = NULL;
    EXPECT(cellsparse_model_predict_large(model, NULL, &wrong, loose, NULL, NULL, NULL, &seen, &text), NULL_POINTER);
    wrong = regions;
    wrong.levels = NULL;
    EXPECT(cellsparse_model_predict_large(model, NULL, &wrong, loose, NULL, NULL, NULL, &seen, &text), NULL_POINTER);
    wrong = regions;
    wrong.levels = &none;
    EXPECT(cellsparse_model_predict_large(model, NULL, &wrong, loose, NULL, NULL, NULL, &seen, &text), CELLSPARSE_STATUS_IMAGE);
    wrong = regions;
    wrong.channels = SIZE_MAX;
    EXPECT(cellsparse_model_predict_large(model, NULL, &wrong, loose, NULL, NULL, NULL, &seen, &text), CELLSPARSE_STATUS_IMAGE);
    wrong = regions;
    wrong.dtype = 9;
    EXPECT(cellsparse_model_predict_large(model, NULL, &wrong, loose, NULL, NULL, NULL, &seen, &text), INVALID_ARGUMENT);
    wrong = regions;
    wrong.pixel_size[1] = 0;
    EXPECT(cellsparse_model_predict_large(model, NULL, &wrong, loose, NULL, NULL, NULL, &seen, &text), INVALID_ARGUMENT);

    seen.read_answer = 5;
    EXPECT(cellsparse_model_predict_large(model, NULL, &regions, loose, NULL, NULL, NULL, &seen, &text), CELLSPARSE_STATUS_IMAGE);
    CHECK(strstr(cellsparse_last_error_message(), "answered 5") != NULL);
    seen.read_answer = 0;
    seen.write_answer = 6;
    EXPECT(cellsparse_model_predict_large(model, NULL, &regions, loose, NULL, write_part, NULL, &seen, &text), CELLSPARSE_STATUS_IO);
    CHECK(strstr(cellsparse_last_error_message(), "answered 6") != NULL);
    seen.observer_answer = 1;
    EXPECT(cellsparse_model_predict_large(model, NULL, &regions, loose, NULL, NULL, see_part, &seen, &text), CELLSPARSE_STATUS_CANCELLED);
    EXPECT(cellsparse_cancel_new(&cancel), OK);
    EXPECT(cellsparse_cancel_raise(cancel), OK);
    EXPECT(cellsparse_model_predict_large(model, NULL, &regions, loose, cancel, NULL, NULL, &seen, &text), CELLSPARSE_STATUS_CANCELLED);
    EXPECT(cellsparse_cancel_free(cancel), OK);
    EXPECT(cellsparse_model_free(model), OK);
}

static void conversions_take_settings(void) {
    static const char *const source = FIXTURES "/stardist/keras2";
    const char *text = "untouched";
    EXPECT(cellsparse_convert(source, "x.onnx", NULL, NULL), NULL_POINTER);
    EXPECT(cellsparse_convert(NULL, "x.onnx", NULL, &text), NULL_POINTER);
    EXPECT(cellsparse_convert(source, "x.onnx", "no/such/file", &text), CELLSPARSE_STATUS_NOT_FOUND);
    EXPECT(cellsparse_convert(source, "x.onnx", FIXTURES "/stardist/keras2/thresholds.json", &text), CELLSPARSE_STATUS_FILE);
    CHECK(strstr(cellsparse_last_error_message(), "package, onnx") != NULL);
    CHECK(strcmp(text, "untouched") == 0);
}

/* By random weights of a tiny network. */
static void objects_are_outlined_by_click(void) {
    static const char *const weights = FIXTURES "/sam/small_weights.safetensors";
    static const char *const prompts = "[{\"points\": [[9.5, 9.5, 1], [30, 2, 0]]}, {\"points\": [], \"box\": [15, 15, 28, 28]}]";
    cellsparse_image image = an_image();
    cellsparse_sam *sam = NULL;
    cellsparse_segmentation *found = NULL;
    cellsparse_cancel *cancel = NULL;
    const char *text = NULL;
    size_t height = 0, width = 0, count = 0, live = 0, part[4] = {9, 9, 9, 9};
    static const size_t view[4] = {4, 3, 50, 60};
    EXPECT(cellsparse_sam_load(NULL, NULL, &sam), NULL_POINTER);
    EXPECT(cellsparse_sam_load(weights, NULL, NULL), NULL_POINTER);
    EXPECT(cellsparse_sam_load("no such.pth", NULL, &sam), CELLSPARSE_STATUS_FILE);
    CHECK(strstr(cellsparse_last_error_message(), "mobile_sam.pt") != NULL);
    EXPECT(cellsparse_sam_load(weights, "{\"devices\": 1}", &sam), CELLSPARSE_STATUS_CONFIG);
    EXPECT(cellsparse_sam_load(weights, "{\"device\": \"cpu\", \"threads\": 2}", &sam), OK);
    EXPECT(cellsparse_sam_info(sam, &text), OK);
    CHECK(strstr(text, "\"size\":96") != NULL && strstr(text, "\"kind\":\"other\"") != NULL);
    EXPECT(cellsparse_string_free(text), OK);

    EXPECT(cellsparse_sam_part(sam, 5000, 8000, view, "[]", NULL), NULL_POINTER);
    EXPECT(cellsparse_sam_part(sam, 5000, 8000, view, NULL, part), NULL_POINTER);
    EXPECT(cellsparse_sam_part(sam, 5000, 8000, view, prompts, part), OK);
    CHECK(part[0] == 0 && part[1] == 0 && part[2] == 96 && part[3] == 96);
    EXPECT(cellsparse_sam_part(sam, 5000, 8000, NULL, "[]", part), OK);
    CHECK(part[0] == 0 && part[1] == 0 && part[2] == 5000 && part[3] == 8000);
    EXPECT(cellsparse_sam_masks(NULL, &image, prompts, NULL, NULL, &found), NULL_POINTER);
    EXPECT(cellsparse_sam_masks(sam, NULL, prompts, NULL, NULL, &found), NULL_POINTER);
    EXPECT(cellsparse_sam_masks(sam, &image, NULL, NULL, NULL, &found), NULL_POINTER);
    EXPECT(cellsparse_sam_masks(sam, &image, prompts, NULL, NULL, NULL), NULL_POINTER);
    EXPECT(cellsparse_sam_masks(sam, &image, "[{}]", NULL, NULL, &found), CELLSPARSE_STATUS_CONFIG);
    EXPECT(cellsparse_sam_masks(sam, &image, "{}", NULL, NULL, &found), CELLSPARSE_STATUS_CONFIG);
    EXPECT(cellsparse_sam_masks(sam, &image, "[{\"points\": [[9, 40, 1]]}]", NULL, NULL, &found), CELLSPARSE_STATUS_CONFIG);
    EXPECT(cellsparse_sam_masks(sam, &image, prompts, "{\"steps\": 1}", NULL, &found), CELLSPARSE_STATUS_CONFIG);
    EXPECT(cellsparse_sam_masks(sam, &image, prompts, "{\"memory\": 1000}", NULL, &found), CELLSPARSE_STATUS_LIMIT);
    EXPECT(cellsparse_cancel_new(&cancel), OK);
    EXPECT(cellsparse_cancel_raise(cancel), OK);
    EXPECT(cellsparse_sam_masks(sam, &image, prompts, NULL, cancel, &found), CELLSPARSE_STATUS_CANCELLED);
    EXPECT(cellsparse_cancel_free(cancel), OK);

    EXPECT(cellsparse_sam_masks(sam, &image, prompts, NULL, NULL, &found), OK);
    EXPECT(cellsparse_live_handles(&live), OK);
    CHECK(live == 2);
    EXPECT(cellsparse_segmentation_shape(found, &height, &width), OK);
    CHECK(height == SIDE && width == SIDE);
    EXPECT(cellsparse_segmentation_object_count(found, &count), OK);
    CHECK(count <= 2);
    EXPECT(cellsparse_segmentation_free(found), OK);
    EXPECT(cellsparse_sam_free(NULL), OK);
    EXPECT(cellsparse_sam_free(sam), OK);
    EXPECT(cellsparse_sam_free(sam), INVALID_HANDLE);
    EXPECT(cellsparse_sam_masks(sam, &image, prompts, NULL, NULL, &found), INVALID_HANDLE);
    EXPECT(cellsparse_sam_info(sam, &text), INVALID_HANDLE);
}

int main(void) {
    size_t live = 1;
    CHECK(cellsparse_abi_version() == CELLSPARSE_ABI_VERSION && strlen(cellsparse_version()) > 0);
    CHECK(strcmp(cellsparse_last_error_message(), "") == 0);
    draw();
    nulls_are_refused();
    wrong_handles_are_refused();
    wrong_sizes_are_refused();
    callbacks_can_stop_and_cannot_break_in();
    results_come_out_whole();
    notes_and_pixel_sizes_are_told();
    images_are_segmented_by_parts();
    conversions_take_settings();
    objects_are_outlined_by_click();
#ifndef RELEASE
    EXPECT(cellsparse_test_panic(), CELLSPARSE_STATUS_INTERNAL);
    CHECK(strstr(cellsparse_last_error_message(), "on purpose") != NULL);
#endif
    EXPECT(cellsparse_live_handles(&live), OK);
    CHECK(live == 0);
    if (failures == 0) puts("passed");
    return failures == 0 ? 0 : 1;
}
