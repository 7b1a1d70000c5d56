//! Outlines of labelled pixels, as rings of points and as GeoJSON.

use std::ffi::c_char;
use std::mem::MaybeUninit;

use cellsparse_core::formats::geojson::{Feature, Geometry, geojson_string, to_geojson};

use crate::boundary::enter;
use crate::handles::{Behind, Table};
use crate::options;
use crate::pointers::{check_array, copy_out, expect, given, optional_text, put, put_text};
use crate::status::cellsparse_status;
use crate::views::cellsparse_labels;

/// The outlines of the objects of a label image. Opaque; nothing changes them, so any number of threads may read them.
pub struct cellsparse_outlines {
    _opaque: (),
}

/// One closed ring (first point = last point) of an outline.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct cellsparse_ring {
    /// The object's value in the label image; rings come in increasing id.
    pub id: i32,
    /// Which part of the object it belongs to, from 0; more than one part for an object in several pieces.
    pub part: u32,
    /// 0 for the outer ring of the part, otherwise the number of a hole in it, from 1.
    pub hole: u32,
    /// Index of its first point among all points.
    pub first_point: usize,
    /// Number of its points, the repeated one included.
    pub n_points: usize,
}

pub(crate) struct Outlines {
    rings: Vec<cellsparse_ring>,
    points: Vec<f64>,
}

impl Behind for Outlines {
    type Token = cellsparse_outlines;
    const NAME: &'static str = "outlines";

    fn table() -> &'static Table<Self> {
        static TABLE: Table<Outlines> = Table::new();
        &TABLE
    }
}

impl Outlines {
    /// The rings of features, whichever rule they were traced by.
    pub fn of(features: Vec<Feature>) -> Self {
        let mut traced = Self { rings: Vec::new(), points: Vec::new() };
        for feature in features {
            let parts = match feature.geometry {
                Geometry::Polygon(rings) => vec![rings],
                Geometry::MultiPolygon(parts) => parts,
            };
            for (part, rings) in (0..).zip(parts) {
                for (hole, ring) in (0..).zip(rings) {
                    let (id, first_point) = (feature.object, traced.points.len() / 2);
                    traced.rings.push(cellsparse_ring { id, part, hole, first_point, n_points: ring.len() });
                    traced.points.extend(ring.into_iter().flatten());
                }
            }
        }
        traced
    }
}

/// The outlines of the objects of any label image; `options` as of cellsparse_segmentation_outlines(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_labels_outlines(
    labels: Option<&cellsparse_labels>,
    options: *const c_char,
    outlines_out: Option<&mut MaybeUninit<*mut cellsparse_outlines>>,
) -> cellsparse_status {
    enter(|| {
        expect(&outlines_out, "outlines_out")?;
        // SAFETY: the caller's promise about its texts.
        let options = options::outline(unsafe { optional_text(options, "options") }?)?;
        // SAFETY: the caller's promise about the buffer of the labels.
        let labels = unsafe { given(labels, "labels")?.to_label_image() }?;
        Outlines::of(to_geojson(&labels, &options)?).publish(outlines_out, "outlines_out")
    })
}

/// The outlines of any label image as a JSON array of GeoJSON features; `options` as of cellsparse_segmentation_outlines().
/// With {"outline": "literal"} the text is byte for byte that of cellsparse-api 0.2. Free the text with
/// cellsparse_string_free(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_labels_geojson(
    labels: Option<&cellsparse_labels>,
    options: *const c_char,
    json_out: Option<&mut MaybeUninit<*const c_char>>,
) -> cellsparse_status {
    enter(|| {
        expect(&json_out, "json_out")?;
        // SAFETY: the caller's promise about its texts.
        let options = options::outline(unsafe { optional_text(options, "options") }?)?;
        // SAFETY: the caller's promise about the buffer of the labels.
        let labels = unsafe { given(labels, "labels")?.to_label_image() }?;
        put_text(json_out, geojson_string(&to_geojson(&labels, &options)?)?, "json_out")
    })
}

/// The number of rings and of points of all outlines together. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_outlines_size(
    outlines: *const cellsparse_outlines,
    n_rings_out: Option<&mut MaybeUninit<usize>>,
    n_points_out: Option<&mut MaybeUninit<usize>>,
) -> cellsparse_status {
    enter(|| {
        expect(&n_rings_out, "n_rings_out")?;
        expect(&n_points_out, "n_points_out")?;
        let traced = Outlines::find(outlines)?;
        put(n_rings_out, traced.rings.len(), "n_rings_out")?;
        put(n_points_out, traced.points.len() / 2, "n_points_out")
    })
}

/// Copies all rings and all points: x, y, x, y, ... `n_rings` must be the number of rings and `n_values` twice the number of
/// points. Exact outlines are in pixel-corner coordinates; literal ones have pixel centres at integers, as cellsparse-api
/// 0.2 gives them. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_outlines_copy(
    outlines: *const cellsparse_outlines,
    rings: *mut cellsparse_ring,
    n_rings: usize,
    points: *mut f64,
    n_values: usize,
) -> cellsparse_status {
    enter(|| {
        let traced = Outlines::find(outlines)?;
        // What cannot take the points is to leave the rings as they are.
        check_array(points, n_values, "points")?;
        if n_values != traced.points.len() {
            // SAFETY: refused for its size before anything is written.
            return unsafe { copy_out(&traced.points, points, n_values, "points") };
        }
        // SAFETY: the caller's promise about `rings` and `n_rings`.
        unsafe { copy_out(&traced.rings, rings, n_rings, "rings") }?;
        // SAFETY: the caller's promise about `points` and `n_values`.
        unsafe { copy_out(&traced.points, points, n_values, "points") }
    })
}

/// Frees outlines. Any thread; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_outlines_free(outlines: *mut cellsparse_outlines) -> cellsparse_status {
    enter(|| Outlines::free(outlines))
}
