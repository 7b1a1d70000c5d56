/* cellsparse: cell segmentation networks (StarDist, Cellpose, ELEPHANT) trained from sparse labels.
 *
 * Generated from cellsparse-ffi by cbindgen; do not edit. docs/c.md leads from nothing to a result.
 *
 * Conventions
 * - Every call that can fail returns a cellsparse_status. Its message is available from cellsparse_last_error_message(), on the
 *   thread of the call. Numbers of status codes never change their meaning.
 * - Results come out through the last parameters (named ..._out). They are written only on success.
 * - Pointers are checked for NULL. A parameter that may be NULL says so.
 * - Handles are tokens, not addresses: a handle that was freed, or never was one, gives
 *   CELLSPARSE_STATUS_INVALID_HANDLE and no harm is done. Every handle has one owner, who frees it once with its own _free
 *   function; freeing NULL does nothing. Freeing a handle while another thread works with it is allowed: its memory goes
 *   when that work ends.
 * - Any handle may be used from any thread. Calls that only read a handle may run at the same time; a call that changes a
 *   handle needs it alone. A call that finds its handle taken does not wait: it returns CELLSPARSE_STATUS_BUSY.
 * - Text is UTF-8 and ends with NUL. Options are JSON objects with the names of the command line and of the Python package
 *   (steps, batch_size, ...); NULL means all defaults, and a name that is not known is refused.
 * - Images and label images are borrowed for the length of the call only.
 * - Polygons are x, y pairs in pixel-corner coordinates: the pixel in row r and column c covers [c, c + 1] x [r, r + 1].
 * - Nothing reaches for the network, and no file is written but those that the caller names.
 */

#ifndef CELLSPARSE_H
#define CELLSPARSE_H

#include <stddef.h>
#include <stdint.h>

/**
 * The version of the binary interface that this header describes. A program compares it with
 * cellsparse_abi_version() before anything else.
 */
#define CELLSPARSE_ABI_VERSION 1

/**
 * What a call came to. The numbers never change; later versions may add some.
 */
enum cellsparse_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Success; outputs are written.
     */
    CELLSPARSE_STATUS_OK = 0,
    /**
     * An image has an unusable shape, type or content.
     */
    CELLSPARSE_STATUS_IMAGE = 1,
    /**
     * A label image or an annotation is unusable.
     */
    CELLSPARSE_STATUS_LABELS = 2,
    /**
     * An option or a configuration value is unknown or outside its range.
     */
    CELLSPARSE_STATUS_CONFIG = 3,
    /**
     * A file or folder does not exist.
     */
    CELLSPARSE_STATUS_NOT_FOUND = 4,
    /**
     * A file exists and cannot be used: damaged, of another format or of another version.
     */
    CELLSPARSE_STATUS_FILE = 5,
    /**
     * The operating system refused to read or write.
     */
    CELLSPARSE_STATUS_IO = 6,
    /**
     * Weights do not fit the network that they are meant for.
     */
    CELLSPARSE_STATUS_WEIGHTS = 7,
    /**
     * The work would exceed a limit on memory, pixels or objects.
     */
    CELLSPARSE_STATUS_LIMIT = 8,
    /**
     * A device is absent or failed.
     */
    CELLSPARSE_STATUS_DEVICE = 9,
    /**
     * Training produced a value that is not finite; the model is as it was before.
     */
    CELLSPARSE_STATUS_DIVERGED = 10,
    /**
     * A cancel handle was raised before there was a result.
     */
    CELLSPARSE_STATUS_CANCELLED = 11,
    /**
     * A defect of the library, a caught panic included.
     */
    CELLSPARSE_STATUS_INTERNAL = 12,
    /**
     * A pointer that must not be NULL is NULL.
     */
    CELLSPARSE_STATUS_NULL_POINTER = 20,
    /**
     * A handle that was freed, or never was one of its type.
     */
    CELLSPARSE_STATUS_INVALID_HANDLE = 21,
    /**
     * Another thread, or a callback's own training, has the handle.
     */
    CELLSPARSE_STATUS_BUSY = 22,
    /**
     * An argument that no call can take: text that is not UTF-8, an unknown constant, a buffer of a wrong size.
     */
    CELLSPARSE_STATUS_INVALID_ARGUMENT = 23,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum cellsparse_status cellsparse_status;
#else
typedef uint32_t cellsparse_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The type of the samples of an image or a label image, in the byte order of the machine.
 */
enum cellsparse_dtype
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * 8-bit unsigned.
     */
    CELLSPARSE_DTYPE_U8 = 1,
    /**
     * 16-bit unsigned.
     */
    CELLSPARSE_DTYPE_U16 = 2,
    /**
     * 32-bit floating point; images only.
     */
    CELLSPARSE_DTYPE_F32 = 3,
    /**
     * 32-bit signed; label images only.
     */
    CELLSPARSE_DTYPE_I32 = 4,
    /**
     * 32-bit unsigned; label images only.
     */
    CELLSPARSE_DTYPE_U32 = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum cellsparse_dtype cellsparse_dtype;
#else
typedef uint32_t cellsparse_dtype;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What the values of a label image mean.
 */
enum cellsparse_encoding
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Below 0 unlabelled (ignored by every loss), 0 background, 1 and up objects.
     */
    CELLSPARSE_ENCODING_SIGNED = 0,
    /**
     * 0 unlabelled, 1 background, 2 and up objects (id = value - 1).
     */
    CELLSPARSE_ENCODING_WIRE = 1,
    /**
     * 0 background, 1 and up objects, nothing unlabelled.
     */
    CELLSPARSE_ENCODING_DENSE = 2,
    /**
     * 0 unlabelled, 1 and up objects, no background.
     */
    CELLSPARSE_ENCODING_CELLS = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum cellsparse_encoding cellsparse_encoding;
#else
typedef uint32_t cellsparse_encoding;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a drawn polygon says about its pixels.
 */
enum cellsparse_polygon_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * One whole object.
     */
    CELLSPARSE_POLYGON_KIND_FOREGROUND = 1,
    /**
     * Background.
     */
    CELLSPARSE_POLYGON_KIND_BACKGROUND = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum cellsparse_polygon_kind cellsparse_polygon_kind;
#else
typedef uint32_t cellsparse_polygon_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Why a training ended. The numbers never change; later versions may add some.
 */
enum cellsparse_stop_reason
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * All steps are done.
     */
    CELLSPARSE_STOP_REASON_FINISHED = 0,
    /**
     * The validation loss no longer went down, or without validation that of the training.
     */
    CELLSPARSE_STOP_REASON_NO_IMPROVEMENT = 1,
    /**
     * The time budget is used up.
     */
    CELLSPARSE_STOP_REASON_TIME_BUDGET = 2,
    /**
     * The observer or a cancel handle asked for it.
     */
    CELLSPARSE_STOP_REASON_CANCELLED = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum cellsparse_stop_reason cellsparse_stop_reason;
#else
typedef uint32_t cellsparse_stop_reason;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A flag that any thread may raise to stop work. Opaque.
 */
typedef struct cellsparse_cancel cellsparse_cancel;

/**
 * Images with their sparse labels, to train on. Opaque.
 */
typedef struct cellsparse_dataset cellsparse_dataset;

/**
 * A segmentation network with its weights and everything needed to use it. Opaque.
 */
typedef struct cellsparse_model cellsparse_model;

/**
 * The outlines of the objects of a label image. Opaque; nothing changes them, so any number of threads may read them.
 */
typedef struct cellsparse_outlines cellsparse_outlines;

/**
 * A network of SAM or MobileSAM with its weights and what it saw in the last images. Opaque; any number of threads may use it.
 */
typedef struct cellsparse_sam cellsparse_sam;

/**
 * A label image and the objects in it. Opaque; nothing changes it, so any number of threads may read it.
 */
typedef struct cellsparse_segmentation cellsparse_segmentation;

/**
 * A borrowed image. Sample (y, x, c) lies at `offset + y * row_stride + x * column_stride + c * channel_stride` bytes
 * behind `data`. Strides may be negative; all three 0 mean rows without gaps, channel last.
 */
typedef struct cellsparse_image {
    /**
     * The buffer; need not be aligned.
     */
    const void *data;
    /**
     * Bytes that may be read behind `data`; every sample must lie within.
     */
    size_t size;
    /**
     * Bytes from `data` to the first sample.
     */
    size_t offset;
    /**
     * A cellsparse_dtype: U8, U16 or F32.
     */
    uint32_t dtype;
    /**
     * Rows, at least 1.
     */
    size_t height;
    /**
     * Columns, at least 1.
     */
    size_t width;
    /**
     * Channels, at least 1.
     */
    size_t channels;
    /**
     * Bytes from one row to the next.
     */
    ptrdiff_t row_stride;
    /**
     * Bytes from one column to the next.
     */
    ptrdiff_t column_stride;
    /**
     * Bytes from one channel to the next.
     */
    ptrdiff_t channel_stride;
} cellsparse_image;

/**
 * A borrowed label image, laid out as a cellsparse_image of one channel.
 */
typedef struct cellsparse_labels {
    /**
     * The buffer; need not be aligned.
     */
    const void *data;
    /**
     * Bytes that may be read behind `data`; every value must lie within.
     */
    size_t size;
    /**
     * Bytes from `data` to the first value.
     */
    size_t offset;
    /**
     * A cellsparse_dtype: U8, U16, I32 or U32.
     */
    uint32_t dtype;
    /**
     * A cellsparse_encoding.
     */
    uint32_t encoding;
    /**
     * Rows, at least 1.
     */
    size_t height;
    /**
     * Columns, at least 1.
     */
    size_t width;
    /**
     * Bytes from one row to the next.
     */
    ptrdiff_t row_stride;
    /**
     * Bytes from one column to the next.
     */
    ptrdiff_t column_stride;
} cellsparse_labels;

/**
 * A borrowed polygon, given by its rings: a pixel belongs to it when its centre does, by the even-odd rule over all rings.
 * So holes are further rings, and several parts of one object too. Rings need not be closed.
 */
typedef struct cellsparse_polygon {
    /**
     * The points of all rings one after the other: x, y, x, y, ... in pixel-corner coordinates.
     */
    const double *points;
    /**
     * Number of points (half the number of values).
     */
    size_t n_points;
    /**
     * Number of points of each ring, `n_rings` numbers whose sum is `n_points`; NULL for a single ring.
     */
    const size_t *ring_lengths;
    /**
     * Number of rings; 0 with `ring_lengths` NULL.
     */
    size_t n_rings;
    /**
     * A cellsparse_polygon_kind.
     */
    uint32_t kind;
} cellsparse_polygon;

/**
 * Rows and columns of an image at one resolution.
 */
typedef struct cellsparse_extent {
    /**
     * Rows, at least 1.
     */
    size_t height;
    /**
     * Columns, at least 1.
     */
    size_t width;
} cellsparse_extent;

/**
 * A rectangle of pixels.
 */
typedef struct cellsparse_region {
    /**
     * First row.
     */
    size_t top;
    /**
     * First column.
     */
    size_t left;
    /**
     * Rows.
     */
    size_t height;
    /**
     * Columns.
     */
    size_t width;
} cellsparse_region;

/**
 * Writes the samples of a part of an image to `samples`, which has room for exactly its `size` bytes: row by row without
 * gaps, channels next to each other, in the type that the image states. Returns 0; anything else ends the call with
 * CELLSPARSE_STATUS_IMAGE. Regions lie within the level and may overlap.
 */
typedef int32_t (*cellsparse_read_region)(void *userdata,
                                          size_t level,
                                          const struct cellsparse_region *region,
                                          void *samples,
                                          size_t size);

/**
 * An image of which any part can be read.
 */
typedef struct cellsparse_regions {
    /**
     * Sizes of its resolutions, the largest first.
     */
    const struct cellsparse_extent *levels;
    /**
     * Number of resolutions, at least 1.
     */
    size_t n_levels;
    /**
     * Channels of every part, at least 1.
     */
    size_t channels;
    /**
     * A cellsparse_dtype: U8, U16 or F32.
     */
    uint32_t dtype;
    /**
     * Micrometres per pixel of level 0, height and width; 0 where they are not known.
     */
    double pixel_size[2];
    /**
     * Gives the pixels.
     */
    cellsparse_read_region read;
} cellsparse_regions;

/**
 * Takes the labels of the next block, row by row without gaps: 0 background, 1 and up ids that count through the whole image.
 * They are valid during the call only. Blocks come row by row from the top left on, and every pixel of the level is in one of them.
 * Returns 0; anything else ends the call with CELLSPARSE_STATUS_IO.
 */
typedef int32_t (*cellsparse_write_region)(void *userdata, const struct cellsparse_region *region, const int32_t *labels);

/**
 * How far a segmentation by parts is; valid during the callback only.
 */
typedef struct cellsparse_large_progress {
    /**
     * What is being done, in this order: "network" (nearly all of the time), "objects", "output".
     */
    const char *phase;
    /**
     * Parts done.
     */
    uint64_t done;
    /**
     * Parts in all.
     */
    uint64_t total;
    /**
     * Seconds since the run began.
     */
    double elapsed;
    /**
     * Estimated seconds until the phase ends.
     */
    double remaining;
} cellsparse_large_progress;

/**
 * Watches a segmentation by parts. Returns 0 to go on; anything else ends the call with CELLSPARSE_STATUS_CANCELLED.
 */
typedef int32_t (*cellsparse_large_observer)(void *userdata, const struct cellsparse_large_progress *progress);

/**
 * Counts and scores at one threshold, the fields of stardist.matching.
 */
typedef struct cellsparse_scores {
    /**
     * Intersection over union from which a pair counts as matched (inclusive).
     */
    double thresh;
    /**
     * Predicted objects without a partner.
     */
    uint64_t fp;
    /**
     * Matched pairs.
     */
    uint64_t tp;
    /**
     * True objects without a partner.
     */
    uint64_t fn;
    /**
     * tp / (tp + fp); 0 without true positives, as the next three.
     */
    double precision;
    /**
     * tp / (tp + fn).
     */
    double recall;
    /**
     * tp / (tp + fp + fn).
     */
    double accuracy;
    /**
     * 2 tp / (2 tp + fp + fn).
     */
    double f1;
    /**
     * Number of true objects.
     */
    uint64_t n_true;
    /**
     * Number of predicted objects.
     */
    uint64_t n_pred;
    /**
     * Sum of the scores of the matched pairs over n_true.
     */
    double mean_true_score;
    /**
     * Sum of the scores of the matched pairs over tp.
     */
    double mean_matched_score;
    /**
     * Sum of the scores of the matched pairs over tp + fp / 2 + fn / 2.
     */
    double panoptic_quality;
} cellsparse_scores;

/**
 * One closed ring (first point = last point) of an outline.
 */
typedef struct cellsparse_ring {
    /**
     * The object's value in the label image; rings come in increasing id.
     */
    int32_t id;
    /**
     * Which part of the object it belongs to, from 0; more than one part for an object in several pieces.
     */
    uint32_t part;
    /**
     * 0 for the outer ring of the part, otherwise the number of a hole in it, from 1.
     */
    uint32_t hole;
    /**
     * Index of its first point among all points.
     */
    size_t first_point;
    /**
     * Number of its points, the repeated one included.
     */
    size_t n_points;
} cellsparse_ring;

/**
 * One segmented object.
 */
typedef struct cellsparse_object {
    /**
     * Its value in the label image.
     */
    int32_t id;
    /**
     * Confidence in [0, 1].
     */
    float probability;
    /**
     * Class with the highest score: 0 background, 1 and up a class; -1 when the model has no classes.
     */
    int32_t object_class;
    /**
     * Points of its polygon.
     */
    size_t n_points;
} cellsparse_object;

/**
 * One part of the loss.
 */
typedef struct cellsparse_loss_part {
    /**
     * Its name.
     */
    const char *name;
    /**
     * Its unweighted value.
     */
    float value;
} cellsparse_loss_part;

/**
 * One event of a running training, sent after every optimiser step; valid during the callback only.
 */
typedef struct cellsparse_progress {
    /**
     * Optimiser steps done, from 1.
     */
    uint64_t step;
    /**
     * Optimiser steps asked for.
     */
    uint64_t total_steps;
    /**
     * Validation period the step belongs to, from 1.
     */
    uint64_t epoch;
    /**
     * Weighted total loss of this step's batch.
     */
    float loss;
    /**
     * Validation loss in the event of the step after which it was measured, otherwise NaN.
     */
    float validation_loss;
    /**
     * Learning rate of this step.
     */
    float learning_rate;
    /**
     * Seconds since training began.
     */
    double elapsed;
    /**
     * Estimated seconds until training ends.
     */
    double remaining;
    /**
     * The parts of the loss, in a fixed order.
     */
    const struct cellsparse_loss_part *losses;
    /**
     * Number of parts.
     */
    size_t n_losses;
} cellsparse_progress;

/**
 * Watches a training. Returns 0 to go on; anything else stops the training after this step, which keeps the weights
 * reached so far. It is called on the thread that called cellsparse_model_train(), must not throw or jump out, and may raise
 * cancel handles; a call with the model that is being trained returns CELLSPARSE_STATUS_BUSY.
 */
typedef int32_t (*cellsparse_observer)(void *userdata, const struct cellsparse_progress *progress);

/**
 * What a training did.
 */
typedef struct cellsparse_training_summary {
    /**
     * Optimiser steps done.
     */
    uint64_t steps;
    /**
     * Wall time of the steps and validations.
     */
    double seconds;
    /**
     * `seconds / steps`.
     */
    double seconds_per_step;
    /**
     * Loss of the last step.
     */
    float loss;
    /**
     * Why it ended: a cellsparse_stop_reason.
     */
    uint32_t stopped;
    /**
     * Device that did the work, ending with NUL.
     */
    char device[32];
} cellsparse_training_summary;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Why the last failed call of this thread failed: what was found, what was expected and what to do. An empty text when no
 * call has failed yet.
 *
 * Never NULL. The text belongs to the library and is valid until the next failed call of this thread, or its end. Calls
 * that succeed leave it alone.
 */
const char *cellsparse_last_error_message(void);

/**
 * Makes an empty dataset. Any thread.
 */
cellsparse_status cellsparse_dataset_new(struct cellsparse_dataset **dataset_out);

/**
 * Adds a copy of an image and of its sparse labels, a label image of the same size. All images of a dataset have the same
 * number of channels. On failure the dataset is as it was.
 *
 * Any thread; a dataset is never busy.
 */
cellsparse_status cellsparse_dataset_add(struct cellsparse_dataset *dataset,
                                         const struct cellsparse_image *image,
                                         const struct cellsparse_labels *labels);

/**
 * Adds a copy of an image with its annotations drawn as polygons: each foreground polygon is one object, background
 * polygons are background, and everything else is unlabelled. Foreground wins over background, and a later foreground
 * polygon over an earlier one; what lies outside the image is cut off. On failure the dataset is as it was.
 *
 * Any thread; a dataset is never busy.
 */
cellsparse_status cellsparse_dataset_add_polygons(struct cellsparse_dataset *dataset,
                                                  const struct cellsparse_image *image,
                                                  const struct cellsparse_polygon *polygons,
                                                  size_t n_polygons);

/**
 * Says of which class objects of an image are, for a StarDist network with classes: `classes[i]`, from 1, is the class of
 * the object `ids[i]` of image `index` (counted from 0). Objects that are not named have no known class. On failure the
 * dataset is as it was.
 *
 * Any thread; a dataset is never busy.
 */
cellsparse_status cellsparse_dataset_set_classes(struct cellsparse_dataset *dataset,
                                                 size_t index,
                                                 const int32_t *ids,
                                                 const uint32_t *classes,
                                                 size_t count);

/**
 * Says how large the pixels of image `index` (counted from 0) are, in micrometres. Images of different pixel sizes are
 * brought to one by a training; see cellsparse_model_train(). On failure the dataset is as it was.
 *
 * Any thread; a dataset is never busy.
 */
cellsparse_status cellsparse_dataset_set_pixel_size(struct cellsparse_dataset *dataset,
                                                    size_t index,
                                                    double height,
                                                    double width);

/**
 * The number of images. Any thread.
 */
cellsparse_status cellsparse_dataset_size(const struct cellsparse_dataset *dataset, size_t *size_out);

/**
 * What would make the annotations more useful, as a JSON array of sentences, each of them once; [] when there is nothing
 * to say. Free the text with cellsparse_string_free(). Any thread.
 */
cellsparse_status cellsparse_dataset_advice(const struct cellsparse_dataset *dataset,
                                            const char **json_out);

/**
 * Frees a dataset. Any thread; NULL is fine.
 */
cellsparse_status cellsparse_dataset_free(struct cellsparse_dataset *dataset);

/**
 * Segments an image that need not fit into the memory, part by part, with the result of the whole.
 *
 * The image is that of a file, `path` (TIFF of any size and kind, OME-Zarr folder, any other picture), or `regions`; the other one is NULL.
 * `options` is a JSON object, or NULL for the defaults: those of cellsparse_model_predict(), and level (0; a number, or micrometres
 * per pixel like "0.5um"), region (objects whose middle lies in it are kept: "left,top,width,height" in pixels of level 0, or
 * GeoJSON), skip_empty (true: parts in which nothing stands out are left out), folder (where finished parts are kept; none),
 * resume (false; true goes on from the parts in the folder), image (a text that tells the image from others, compared when a
 * run goes on), outputs (files to write, an array of paths whose endings say what: .ome.tif, .tif, .zarr labels; .geojson
 * outlines for QuPath; .csv measurements), outline and simplify (as of cellsparse_segmentation_outlines()).
 *
 * `write`, `observer` and `userdata` may be NULL. All callbacks are called with `userdata` on the thread that called this
 * function, one at a time; they must not throw or jump out, and may raise cancel handles.
 *
 * `json_out` takes a JSON object: objects (their number), shape (rows and columns of the level), pixel_size (micrometres of the
 * level, or null), notes (sentences that a user should know), was_finished (a run that goes on had nothing left to do). Free it
 * with cellsparse_string_free(). Only reads the model: many threads may predict with one model at a time.
 */
cellsparse_status cellsparse_model_predict_large(const struct cellsparse_model *model,
                                                 const char *path,
                                                 const struct cellsparse_regions *regions,
                                                 const char *options,
                                                 const struct cellsparse_cancel *cancel,
                                                 cellsparse_write_region write,
                                                 cellsparse_large_observer observer,
                                                 void *userdata,
                                                 const char **json_out);

/**
 * The version of the binary interface of the loaded library. It changes when a program that was compiled against an older
 * header would misbehave; additions leave it alone. Cannot fail; any thread.
 */
uint32_t cellsparse_abi_version(void);

/**
 * The version of the library, such as "0.1.0". The text is static. Cannot fail; any thread.
 */
const char *cellsparse_version(void);

/**
 * The devices that this build can use on this machine, as a JSON array of the names that the option "device" takes, the
 * one that "auto" chooses first: ["cpu"]. Free the text with cellsparse_string_free(). Any thread.
 */
cellsparse_status cellsparse_devices(const char **json_out);

/**
 * The number of handles and texts that were given out and not freed: 0 at the end of a program that frees everything.
 * Any thread.
 */
cellsparse_status cellsparse_live_handles(size_t *count_out);

/**
 * Makes a cancel handle that is not raised. One handle may stop many calls. Any thread; a cancel handle is never busy.
 */
cellsparse_status cellsparse_cancel_new(struct cellsparse_cancel **cancel_out);

/**
 * Asks the calls that were given this handle to stop: training at its next step, prediction at its next tile. It cannot be
 * lowered again. Any thread, at any time.
 */
cellsparse_status cellsparse_cancel_raise(const struct cellsparse_cancel *cancel);

/**
 * Whether cellsparse_cancel_raise() was called: 1 or 0. Any thread, at any time.
 */
cellsparse_status cellsparse_cancel_is_raised(const struct cellsparse_cancel *cancel, int32_t *raised_out);

/**
 * Frees a cancel handle. Calls that were given it go on, and can no longer be stopped by it. Any thread; NULL is fine.
 */
cellsparse_status cellsparse_cancel_free(struct cellsparse_cancel *cancel);

/**
 * Compares a true and a predicted label image object by object, by intersection over union at `thresh`, usually 0.5.
 * Unlabelled pixels of the truth do not count. Any thread.
 */
cellsparse_status cellsparse_matching(const struct cellsparse_labels *truth,
                                      const struct cellsparse_labels *predicted,
                                      double thresh,
                                      struct cellsparse_scores *scores_out);

/**
 * Compares `n_images` pairs of label images at `n_thresholds` thresholds and writes as many scores. Counts are summed over
 * the images; the scores are those of the sums, or with `by_image` other than 0 the means of the images' scores. Any
 * thread.
 */
cellsparse_status cellsparse_matching_dataset(const struct cellsparse_labels *truths,
                                              const struct cellsparse_labels *predictions,
                                              size_t n_images,
                                              const double *thresholds,
                                              size_t n_thresholds,
                                              int32_t by_image,
                                              struct cellsparse_scores *scores_out);

/**
 * Makes an untrained model. `algorithm` is "stardist", "cellpose" or "elephant"; the initial weights are drawn from
 * `seed`.
 *
 * `config` is a JSON object of the architecture, or NULL for the defaults: n_channels (1) for all; n_rays (32), grid
 * ([2, 2]), n_filter_base (32), n_depth (3), n_conv_per_depth (2), net_conv_after_unet (128), batch_norm (false), n_classes
 * (null) for StarDist; widths, diam_mean (30) for Cellpose; widths, residual (false) for ELEPHANT. Any thread.
 */
cellsparse_status cellsparse_model_new(const char *algorithm,
                                       const char *config,
                                       uint64_t seed,
                                       struct cellsparse_model **model_out);

/**
 * Loads a model that cellsparse_model_save(), the command line or another language wrote. Any thread.
 */
cellsparse_status cellsparse_model_load(const char *path, struct cellsparse_model **model_out);

/**
 * Turns a model of one program into one of another. The content of `source` says what it is: a model of cellsparse, a model of
 * StarDist (folder, .zip, .h5 beside its config.json, package of bioimage.io, TF_SavedModel.zip or frozen .pb of TensorFlow), weights
 * of Cellpose 2 or 3 or elephant-core (PyTorch or safetensors). The ending of `target` says what it becomes: .safetensors (a model
 * of cellsparse), .pth (PyTorch), .onnx, .zip (package of bioimage.io); of networks of StarDist also no ending or a slash (folder of
 * its package), SavedModel.zip (TensorFlow, Fiji) and .pb (frozen graph of TensorFlow, QuPath). `config` is a JSON file with what
 * the source does not tell, and how it is written (docs/models.md: {"onnx": {"normalization": "inside"}} has the network scale
 * intensities itself), or NULL.
 *
 * `notes_out` takes a JSON array of sentences that a user should know; free it with cellsparse_string_free(). Any thread.
 */
cellsparse_status cellsparse_convert(const char *source,
                                     const char *target,
                                     const char *config,
                                     const char **notes_out);

/**
 * Writes the model to one file, atomically: the file is the old one or the new one, never half. Only reads the model.
 */
cellsparse_status cellsparse_model_save(const struct cellsparse_model *model, const char *path);

/**
 * Forgets everything learned: new initial weights from `seed`, default thresholds, no history.
 *
 * Changes the model: it needs it alone; any thread.
 */
cellsparse_status cellsparse_model_reset(struct cellsparse_model *model, uint64_t seed);

/**
 * What can be said about a model without running it, as a JSON object: algorithm, config, parameters, normalization,
 * thresholds, steps, loss, resumable, pixel_size (micrometres, height and width, of the training images, or null),
 * cell_diameter (median of the drawn cells, in their pixels) and cell_diameter_um. Free the text with cellsparse_string_free(). Only reads the model.
 */
cellsparse_status cellsparse_model_info(const struct cellsparse_model *model,
                                        const char **json_out);

/**
 * Losses and learning rates of all trainings of a model, as a JSON object of arrays: steps, loss, losses, learning_rate,
 * validation_steps, validation_loss. Free the text with cellsparse_string_free(). Only reads the model.
 */
cellsparse_status cellsparse_model_history(const struct cellsparse_model *model,
                                           const char **json_out);

/**
 * What the last training of a model by this handle did and what a user should know of it, as a JSON object: steps, seconds,
 * seconds_per_step, loss, device, precision, stopped, begun ("random", "starter" or "model": what it began with), kept ("trained", or
 * "start" when the weights before it segment what was drawn better and were kept), notes (an array of sentences); null when
 * there was none. Free the text with cellsparse_string_free(). Only reads the model.
 */
cellsparse_status cellsparse_model_last_training(const struct cellsparse_model *model,
                                                 const char **json_out);

/**
 * Segments an image. The result does not depend on the number of threads.
 *
 * `options` is a JSON object, or NULL for what is stored with the model: prob_thresh, nms_thresh (StarDist), flow_threshold,
 * cellprob_threshold, diameter, augment (Cellpose), prob_thresh, postprocess (ELEPHANT), min_area (0), tile,
 * normalized (false; true takes intensities as they are), pixel_size (micrometres, one number or [height, width]: an image
 * whose pixels have another size than those of the training is seen scaled, where that one is known), rescale (true; false takes
 * it as it is, also by Cellpose, which else sees an image by the size of its cells where that of the pixels or a diameter is
 * not given), device ("auto"), precision ("auto", "f32", "tf32" or "bf16"), threads, memory (bytes, or a text like "4G"; half of
 * what is free). `cancel` may be NULL; raised, it ends the call with CELLSPARSE_STATUS_CANCELLED. Work that would take more
 * memory than allowed ends with CELLSPARSE_STATUS_LIMIT before it begins.
 *
 * Only reads the model: many threads may predict with one model at a time.
 */
cellsparse_status cellsparse_model_predict(const struct cellsparse_model *model,
                                           const struct cellsparse_image *image,
                                           const char *options,
                                           const struct cellsparse_cancel *cancel,
                                           struct cellsparse_segmentation **segmentation_out);

/**
 * Frees a model. Any thread; NULL is fine.
 */
cellsparse_status cellsparse_model_free(struct cellsparse_model *model);

/**
 * The outlines of the objects of any label image; `options` as of cellsparse_segmentation_outlines(). Any thread.
 */
cellsparse_status cellsparse_labels_outlines(const struct cellsparse_labels *labels,
                                             const char *options,
                                             struct cellsparse_outlines **outlines_out);

/**
 * The outlines of any label image as a JSON array of GeoJSON features; `options` as of cellsparse_segmentation_outlines().
 * With {"outline": "literal"} the text is byte for byte that of cellsparse-api 0.2. Free the text with
 * cellsparse_string_free(). Any thread.
 */
cellsparse_status cellsparse_labels_geojson(const struct cellsparse_labels *labels,
                                            const char *options,
                                            const char **json_out);

/**
 * The number of rings and of points of all outlines together. Any thread.
 */
cellsparse_status cellsparse_outlines_size(const struct cellsparse_outlines *outlines,
                                           size_t *n_rings_out,
                                           size_t *n_points_out);

/**
 * Copies all rings and all points: x, y, x, y, ... `n_rings` must be the number of rings and `n_values` twice the number of
 * points. Exact outlines are in pixel-corner coordinates; literal ones have pixel centres at integers, as cellsparse-api
 * 0.2 gives them. Any thread.
 */
cellsparse_status cellsparse_outlines_copy(const struct cellsparse_outlines *outlines,
                                           struct cellsparse_ring *rings,
                                           size_t n_rings,
                                           double *points,
                                           size_t n_values);

/**
 * Frees outlines. Any thread; NULL is fine.
 */
cellsparse_status cellsparse_outlines_free(struct cellsparse_outlines *outlines);

/**
 * Frees a text that a call of the library gave out. May be called from any thread; NULL is fine.
 *
 * Returns CELLSPARSE_STATUS_INVALID_HANDLE for any other address. A text that was freed before is one, until a later text happens
 * to get the same address: free each text once.
 */
cellsparse_status cellsparse_string_free(const char *text);

/**
 * Draws polygons as cellsparse_dataset_add_polygons() does: -1 unlabelled, 0 background, and the foreground polygons 1, 2,
 * ... in their order. Foreground wins over background, and a later foreground polygon over an earlier one.
 *
 * `labels` receives `height * width` values, row by row; `capacity` must be that number. Any thread.
 */
cellsparse_status cellsparse_polygons_to_labels(const struct cellsparse_polygon *polygons,
                                                size_t n_polygons,
                                                size_t height,
                                                size_t width,
                                                int32_t *labels,
                                                size_t capacity);

/**
 * Loads weights of SAM (sam_vit_b_01ec64.pth and its larger ones, from
 * https://github.com/facebookresearch/segment-anything#model-checkpoints) or MobileSAM (weights/mobile_sam.pt, from
 * https://github.com/ChaoningZhang/MobileSAM), or the same arrays as safetensors. None are in the library, none are downloaded, and
 * nothing in the file is executed.
 *
 * `options` is a JSON object, or NULL for the defaults: device ("auto"), threads. A library that is built without the feature sam
 * returns CELLSPARSE_STATUS_DEVICE. Any thread.
 */
cellsparse_status cellsparse_sam_load(const char *path,
                                      const char *options,
                                      struct cellsparse_sam **sam_out);

/**
 * What can be said about a network, as a JSON object: kind ("vit_b", "vit_l", "vit_h", "vit_t" or "other"), size (pixels along what
 * it sees of an image, 1024 but for networks of other sizes). Free the text with cellsparse_string_free(). Any thread.
 */
cellsparse_status cellsparse_sam_info(const struct cellsparse_sam *sam,
                                      const char **json_out);

/**
 * The part of an image of `height` x `width` pixels to give to cellsparse_sam_masks(), so that what one looks at is seen about as fine as
 * the network sees: a small image whole, of a larger one a square around `view`. Views near each other lead to the same part, which is
 * then encoded once. All of the prompts lie in it.
 *
 * `view` is what one looks at, as first row, first column, rows and columns, or NULL for all of the image; `prompts` is as of
 * cellsparse_sam_masks(), in the coordinates of the image. `part` takes first row, first column, rows and columns. Any thread.
 */
cellsparse_status cellsparse_sam_part(const struct cellsparse_sam *sam,
                                      size_t height,
                                      size_t width,
                                      const size_t *view,
                                      const char *prompts,
                                      size_t *part);

/**
 * The objects that points and boxes point at. An image takes seconds when it is first given, one at a time; what was seen in the last
 * images is kept, 256 MiB of it at most, so that further objects of them take a fraction of a second.
 *
 * `image` has 1 to 3 channels. Samples of 8 bit are taken as they are; of others the percentiles 0.1 and 99.9 of each channel become
 * black and white. The longer side is reduced to the size of the network: give a part of a large image.
 *
 * `prompts` is a JSON array with an object for each object that is wanted: {"points": [[x, y, 1], [x, y, 0]], "box": [x0, y0, x1, y1]},
 * one of the two or both, in pixel-corner coordinates; 1 is a point in the object, 0 one beside it. Object i + 1 of the segmentation
 * is that of prompt i, without specks beside it and without holes, and absent where nothing was found; a pixel of several belongs to
 * the first. Its probability is the overlap with the object that the network estimates.
 *
 * `options` is a JSON object, or NULL for the defaults: memory (bytes, or a text like "4G"; half of what is free). `cancel` may be NULL;
 * raised, it ends the call with CELLSPARSE_STATUS_CANCELLED. Any thread, also several at a time.
 */
cellsparse_status cellsparse_sam_masks(const struct cellsparse_sam *sam,
                                       const struct cellsparse_image *image,
                                       const char *prompts,
                                       const char *options,
                                       const struct cellsparse_cancel *cancel,
                                       struct cellsparse_segmentation **segmentation_out);

/**
 * Frees a network. Any thread; NULL is fine.
 */
cellsparse_status cellsparse_sam_free(struct cellsparse_sam *sam);

/**
 * Rows and columns of the label image, those of the image. Any thread.
 */
cellsparse_status cellsparse_segmentation_shape(const struct cellsparse_segmentation *segmentation,
                                                size_t *height_out,
                                                size_t *width_out);

/**
 * Copies the label image, row by row: 0 background, otherwise the id of an object. `capacity` must be height times width.
 * Any thread.
 */
cellsparse_status cellsparse_segmentation_labels(const struct cellsparse_segmentation *segmentation,
                                                 int32_t *labels,
                                                 size_t capacity);

/**
 * The number of objects. Any thread.
 */
cellsparse_status cellsparse_segmentation_object_count(const struct cellsparse_segmentation *segmentation,
                                                       size_t *count_out);

/**
 * Object `index`, from 0, in increasing id. Any thread.
 */
cellsparse_status cellsparse_segmentation_object(const struct cellsparse_segmentation *segmentation,
                                                 size_t index,
                                                 struct cellsparse_object *object_out);

/**
 * Copies the polygon of object `index`: x, y, x, y, ..., not closed, in pixel-corner coordinates. `capacity` must be twice
 * its `n_points`. StarDist: the star-convex polygon, which may reach over the image border and below neighbours. Cellpose
 * and ELEPHANT: the outline of the largest part. The exact pixels are available from cellsparse_segmentation_outlines(). Any
 * thread.
 */
cellsparse_status cellsparse_segmentation_polygon(const struct cellsparse_segmentation *segmentation,
                                                  size_t index,
                                                  double *points,
                                                  size_t capacity);

/**
 * The outlines of the objects' pixels. `options` is a JSON object, or NULL for the defaults: outline ("exact": along the
 * pixel edges, holes and parts kept, or "literal": the rule of cellsparse-api 0.2, point for point), simplify (tolerance in
 * pixels, none). Any thread.
 */
cellsparse_status cellsparse_segmentation_outlines(const struct cellsparse_segmentation *segmentation,
                                                   const char *options,
                                                   struct cellsparse_outlines **outlines_out);

/**
 * The outlines as a JSON array of GeoJSON features that QuPath reads, with probabilities and classes. `options` as of
 * cellsparse_segmentation_outlines(). Free the text with cellsparse_string_free(). Any thread.
 */
cellsparse_status cellsparse_segmentation_geojson(const struct cellsparse_segmentation *segmentation,
                                                  const char *options,
                                                  const char **json_out);

/**
 * What a user should know of the result, as a JSON array of sentences: why nothing was found, why it is likely bad, that the
 * image was seen scaled; [] when there is nothing to say. Free the text with cellsparse_string_free(). Any thread.
 */
cellsparse_status cellsparse_segmentation_notes(const struct cellsparse_segmentation *segmentation,
                                                const char **json_out);

/**
 * Frees a segmentation. Any thread; NULL is fine.
 */
cellsparse_status cellsparse_segmentation_free(struct cellsparse_segmentation *segmentation);

/**
 * Trains a model on annotated images, from the weights it has now. The same seed, data and machine kind give the same
 * weights, whatever the number of threads.
 *
 * With `validation` (may be NULL) the weights with the lowest validation loss are kept and thresholds are chosen on it.
 * `options` is a JSON object, or NULL for the defaults: steps, batch_size, patch_size, learning_rate,
 * preset ("default" or "reference"), time_budget (seconds), init ("starter": a model that was never trained begins with the
 * weights in this library, which were learned on drawn fields; or "none": with those it has), seed (0), resume (false), normalized (false; true takes
 * intensities as they are instead of scaling each image), pixel_size (micrometres of all images, one number or [height, width];
 * see also cellsparse_dataset_set_pixel_size()), rescale (true: images of different pixel sizes are brought to one), device ("auto"),
 * precision ("auto", "f32", "bf16", or "tf32", which CUDA devices alone have), threads, memory (bytes, or a text like "4G"; half
 * of what is free), checkpoint (a path). `cancel`,
 * `observer`, `userdata` and `summary_out` may be NULL; `userdata` is handed to the observer.
 *
 * What else is to be known of the training is told by cellsparse_model_last_training().
 *
 * Stopping early, by the observer or by `cancel`, is no failure: the weights so far are kept. `cancel` before the first step
 * is done ends the call with CELLSPARSE_STATUS_CANCELLED, as nothing was learned. After a failure the model is
 * as it was before. Changes the model: it needs it alone; any thread. The datasets are only read, and may be used by
 * several trainings at a time.
 */
cellsparse_status cellsparse_model_train(struct cellsparse_model *model,
                                         const struct cellsparse_dataset *dataset,
                                         const struct cellsparse_dataset *validation,
                                         const char *options,
                                         const struct cellsparse_cancel *cancel,
                                         cellsparse_observer observer,
                                         void *userdata,
                                         struct cellsparse_training_summary *summary_out);

/**
 * Tries every algorithm on the drawn cells of a dataset: each trains 20 small steps on half of them and is scored on the
 * other half, then the halves change places. Gives a JSON object: algorithm (the one to make a model of), reason (a sentence),
 * trials (algorithm and score of each, best first).
 *
 * `options` as of cellsparse_model_train(), for the training to come; of its time_budget at most three tenths are taken.
 * `cancel` may be NULL; raised, it ends the call with CELLSPARSE_STATUS_CANCELLED. Free the text with
 * cellsparse_string_free(). Any thread.
 */
cellsparse_status cellsparse_choose_algorithm(const struct cellsparse_dataset *dataset,
                                              const char *options,
                                              const struct cellsparse_cancel *cancel,
                                              const char **json_out);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CELLSPARSE_H */
