//! What a prediction found.

use std::ffi::c_char;
use std::mem::MaybeUninit;

use cellsparse_core::Segmentation;
use cellsparse_core::formats::geojson::geojson_string;
use cellsparse_core::model::Object;

use crate::boundary::enter;
use crate::handles::{Behind, Table};
use crate::options;
use crate::outlines::{Outlines, cellsparse_outlines};
use crate::pointers::{copy_out, expect, optional_text, put, put_text};
use crate::status::{Failure, Outcome, cellsparse_status};

/// A label image and the objects in it. Opaque; nothing changes it, so any number of threads may read it.
pub struct cellsparse_segmentation {
    _opaque: (),
}

pub(crate) struct Found(pub Segmentation);

impl Behind for Found {
    type Token = cellsparse_segmentation;
    const NAME: &'static str = "segmentation";

    fn table() -> &'static Table<Self> {
        static TABLE: Table<Found> = Table::new();
        &TABLE
    }
}

impl Found {
    fn object(&self, index: usize) -> Outcome<&Object> {
        self.0.objects.get(index).ok_or_else(|| {
            let there = self.0.objects.len();
            Failure::argument(format!("there is no object {index} (counted from 0); the segmentation has {there}"))
        })
    }
}

/// One segmented object.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct cellsparse_object {
    /// Its value in the label image.
    pub id: i32,
    /// Confidence in [0, 1].
    pub probability: f32,
    /// Class with the highest score: 0 background, 1 and up a class; -1 when the model has no classes.
    pub object_class: i32,
    /// Points of its polygon.
    pub n_points: usize,
}

/// Rows and columns of the label image, those of the image. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_segmentation_shape(
    segmentation: *const cellsparse_segmentation,
    height_out: Option<&mut MaybeUninit<usize>>,
    width_out: Option<&mut MaybeUninit<usize>>,
) -> cellsparse_status {
    enter(|| {
        expect(&height_out, "height_out")?;
        expect(&width_out, "width_out")?;
        let (height, width) = Found::find(segmentation)?.0.labels.dim();
        put(height_out, height, "height_out")?;
        put(width_out, width, "width_out")
    })
}

/// Copies the label image, row by row: 0 background, otherwise the id of an object. `capacity` must be height times width.
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_segmentation_labels(
    segmentation: *const cellsparse_segmentation,
    labels: *mut i32,
    capacity: usize,
) -> cellsparse_status {
    enter(|| {
        let found = Found::find(segmentation)?;
        let values = found.0.labels.as_standard_layout();
        // SAFETY: the caller's promise about `labels` and `capacity`.
        unsafe { copy_out(values.as_slice().unwrap_or_default(), labels, capacity, "labels") }
    })
}

/// The number of objects. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_segmentation_object_count(
    segmentation: *const cellsparse_segmentation,
    count_out: Option<&mut MaybeUninit<usize>>,
) -> cellsparse_status {
    enter(|| put(count_out, Found::find(segmentation)?.0.objects.len(), "count_out"))
}

/// Object `index`, from 0, in increasing id. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_segmentation_object(
    segmentation: *const cellsparse_segmentation,
    index: usize,
    object_out: Option<&mut MaybeUninit<cellsparse_object>>,
) -> cellsparse_status {
    enter(|| {
        expect(&object_out, "object_out")?;
        let found = Found::find(segmentation)?;
        let object = found.object(index)?;
        let class = object.class.and_then(|class| i32::try_from(class).ok());
        let told = cellsparse_object {
            id: object.id,
            probability: object.probability,
            object_class: class.unwrap_or(-1),
            n_points: object.polygon.len(),
        };
        put(object_out, told, "object_out")
    })
}

/// Copies the polygon of object `index`: x, y, x, y, ..., not closed, in pixel-corner coordinates. `capacity` must be twice
/// its `n_points`. StarDist: the star-convex polygon, which may reach over the image border and below neighbours. Cellpose
/// and ELEPHANT: the outline of the largest part. The exact pixels are available from cellsparse_segmentation_outlines(). Any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_segmentation_polygon(
    segmentation: *const cellsparse_segmentation,
    index: usize,
    points: *mut f64,
    capacity: usize,
) -> cellsparse_status {
    enter(|| {
        let found = Found::find(segmentation)?;
        // Vertices of the library are y, x with pixel centres at integers.
        let corner = |vertex: &[f32; 2]| [f64::from(vertex[1]) + 0.5, f64::from(vertex[0]) + 0.5];
        let values: Vec<f64> = found.object(index)?.polygon.iter().flat_map(corner).collect();
        // SAFETY: the caller's promise about `points` and `capacity`.
        unsafe { copy_out(&values, points, capacity, "points") }
    })
}

/// The outlines of the objects' pixels. `options` is a JSON object, or NULL for the defaults: outline ("exact": along the
/// pixel edges, holes and parts kept, or "literal": the rule of cellsparse-api 0.2, point for point), simplify (tolerance in
/// pixels, none). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_segmentation_outlines(
    segmentation: *const cellsparse_segmentation,
    options: *const c_char,
    outlines_out: Option<&mut MaybeUninit<*mut cellsparse_outlines>>,
) -> cellsparse_status {
    enter(|| {
        expect(&outlines_out, "outlines_out")?;
        let found = Found::find(segmentation)?;
        // SAFETY: the caller's promise about its texts.
        let options = options::outline(unsafe { optional_text(options, "options") }?)?;
        Outlines::of(found.0.geojson(&options)?).publish(outlines_out, "outlines_out")
    })
}

/// The outlines as a JSON array of GeoJSON features that QuPath reads, with probabilities and classes. `options` as of
/// cellsparse_segmentation_outlines(). Free the text with cellsparse_string_free(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_segmentation_geojson(
    segmentation: *const cellsparse_segmentation,
    options: *const c_char,
    json_out: Option<&mut MaybeUninit<*const c_char>>,
) -> cellsparse_status {
    enter(|| {
        expect(&json_out, "json_out")?;
        let found = Found::find(segmentation)?;
        // SAFETY: the caller's promise about its texts.
        let options = options::outline(unsafe { optional_text(options, "options") }?)?;
        put_text(json_out, geojson_string(&found.0.geojson(&options)?)?, "json_out")
    })
}

/// What a user should know of the result, as a JSON array of sentences: why nothing was found, why it is likely bad, that the
/// image was seen scaled; [] when there is nothing to say. Free the text with cellsparse_string_free(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_segmentation_notes(
    segmentation: *const cellsparse_segmentation,
    json_out: Option<&mut MaybeUninit<*const c_char>>,
) -> cellsparse_status {
    enter(|| {
        expect(&json_out, "json_out")?;
        let notes = serde_json::to_string(&Found::find(segmentation)?.0.notes).map_err(Failure::internal)?;
        put_text(json_out, notes, "json_out")
    })
}

/// Frees a segmentation. Any thread; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_segmentation_free(segmentation: *mut cellsparse_segmentation) -> cellsparse_status {
    enter(|| Found::free(segmentation))
}
