//! What a prediction returns.

use crate::raster::LabelImage;

/// A label image and the objects in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Segmentation {
    /// `[H, W]`: 0 background, object `i` of `objects` has the id `objects[i].id`.
    pub labels: LabelImage,
    /// The objects that own at least one pixel, in increasing id.
    pub objects: Vec<Object>,
    /// What a user should know of the result, one sentence each: why nothing was found, or why it is likely bad.
    pub notes: Vec<String>,
}

/// One segmented object.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its value in the label image.
    pub id: i32,
    /// Vertices `[y, x]` in pixels, pixel centres at integers. StarDist: the star-convex polygon, which is not clipped to the
    /// image and may extend below neighbours; the outline of the pixels is had from the label image. Cellpose and ELEPHANT:
    /// the outline of the object's largest connected part along the edges of its pixels.
    pub polygon: Vec<[f32; 2]>,
    /// Confidence in `[0, 1]`. StarDist: of the chosen candidate; Cellpose and ELEPHANT: the mean probability of belonging to
    /// a cell over the object's pixels.
    pub probability: f32,
    /// Class with the highest score when the model has classes: 0 background, `1..=n_classes` a class.
    pub class: Option<usize>,
}
