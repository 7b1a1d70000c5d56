//! Images with their annotations, checked against each other once.

use super::sparse_labels::{SparseLabels, nothing_drawn};
use crate::error::{Error, ErrorKind, Reason, Result, counted};
use crate::raster::Image;

/// Pairs of an image and its sparse labels that fit each other, with one number of channels throughout and at least one
/// object in all. Images without an object are fields in which nothing is, or nothing is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    images: Vec<Image>,
    labels: Vec<SparseLabels>,
    /// Micrometres per pixel `[y, x]` of every image, where they are known.
    pixel_sizes: Vec<Option<[f64; 2]>>,
}

impl Dataset {
    /// Pairs `images[i]` with `labels[i]`.
    ///
    /// # Errors
    /// [`Error::Image`] for no pair at all, other counts, an unusable image (see [`Image::check`]) or another number of
    /// channels than the first; [`Error::Labels`] for labels of another size than their image. Messages name the
    /// position, counted from 0, and both shapes. [`Error::Labels`] too when no image has an object.
    pub fn new(images: Vec<Image>, labels: Vec<SparseLabels>) -> Result<Self> {
        if images.len() != labels.len() {
            return Err(Error::Image(format!(
                "there are {} and {}; every image needs its own",
                counted(images.len(), "image"),
                counted(labels.len(), "label image")
            )));
        }
        let Some(channels) = images.first().map(Image::channels) else {
            return Err(Error::Image("there is no image to train on; give at least one image with its labels".into()));
        };
        for (index, (image, labels)) in images.iter().zip(&labels).enumerate() {
            image.check().map_err(|error| at(index, error))?;
            labels.check_fits(image).map_err(|error| at(index, error))?;
            if image.channels() != channels {
                return Err(Error::Image(format!(
                    "image {index} has {} and image 0 has {channels}; all must have the same number",
                    counted(image.channels(), "channel")
                ))
                .because(Reason::channels(image.channels(), channels)));
            }
        }
        if labels.iter().all(|labels| labels.object_count() == 0) {
            let what = match labels.as_slice() {
                [one] => nothing_drawn(one),
                all => {
                    format!("of image 0, {}, and none of the {} images has a cell", nothing_drawn(&all[0]), all.len())
                }
            };
            return Err(Error::Labels(format!("no cell is drawn: {what}; draw at least one whole cell")));
        }
        let pixel_sizes = vec![None; images.len()];
        Ok(Self { images, labels, pixel_sizes })
    }

    /// Tells the sizes of the images' pixels `[y, x]` in micrometres, where they are known.
    ///
    /// # Errors
    /// [`Error::Image`] for another number of sizes than images, and for sides that are not above 0 and finite.
    pub fn with_pixel_sizes(mut self, sizes: Vec<Option<[f64; 2]>>) -> Result<Self> {
        if sizes.len() != self.images.len() {
            return Err(Error::Image(format!(
                "there are {} and {}; every image has its own, or none",
                counted(sizes.len(), "pixel size"),
                counted(self.images.len(), "image")
            )));
        }
        for (index, size) in sizes.iter().enumerate() {
            if let Some(side) = size.iter().flatten().find(|side| !(side.is_finite() && **side > 0.0)) {
                return Err(at(
                    index,
                    Error::Image(format!("its pixel size is {side}; it must be above 0 micrometres")),
                ));
            }
        }
        self.pixel_sizes = sizes;
        Ok(self)
    }

    /// Number of pairs, at least 1.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// The images.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// The labels, in the order of the images.
    pub fn labels(&self) -> &[SparseLabels] {
        &self.labels
    }

    /// Micrometres per pixel `[y, x]` of every image, where they are known.
    pub fn pixel_sizes(&self) -> &[Option<[f64; 2]>] {
        &self.pixel_sizes
    }

    /// The images and their labels.
    pub fn into_parts(self) -> (Vec<Image>, Vec<SparseLabels>) {
        (self.images, self.labels)
    }

    /// Channels of every image.
    pub fn channels(&self) -> usize {
        self.images.first().map_or(0, Image::channels)
    }
}

fn at(index: usize, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Image | ErrorKind::Labels => {
            error.map_message(|message| format!("number {index} (counted from 0): {message}"))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3, array};

    use super::*;

    fn labels() -> SparseLabels {
        SparseLabels::from_signed(array![[-1, 0, 1]]).unwrap()
    }

    fn image(channels: usize) -> Image {
        Image::U8(Array3::zeros((1, 3, channels)))
    }

    #[test]
    fn fitting_pairs_are_accepted() {
        let dataset = Dataset::new(vec![image(2), image(2)], vec![labels(), labels()]).unwrap();
        assert_eq!((dataset.len(), dataset.channels()), (2, 2));
    }

    #[test]
    fn empty_fields_are_welcome_beside_others() {
        let empty = |value| SparseLabels::from_signed(Array2::from_elem((1, 3), value)).unwrap();
        let images = || vec![image(1), image(1)];
        Dataset::new(images(), vec![empty(0), labels()]).unwrap();
        Dataset::new(images(), vec![labels(), empty(-1)]).unwrap();
        let text = Dataset::new(images(), vec![empty(0), empty(-1)]).unwrap_err().to_string();
        assert!(text.contains("no cell is drawn") && text.contains("none of the 2 images"), "{text}");
        let text = Dataset::new(vec![image(1)], vec![empty(-1)]).unwrap_err().to_string();
        assert!(text.contains("every pixel is unlabelled"), "{text}");
    }

    #[test]
    fn misfits_name_the_pair_and_both_shapes() {
        let refusal = |images, labels| Dataset::new(images, labels).unwrap_err().to_string();
        assert!(refusal(vec![], vec![]).contains("no image"));
        assert!(refusal(vec![image(1)], vec![]).contains("1 image and 0 label images"));
        let text = refusal(vec![image(1), Image::from_gray(Array2::zeros((4, 5)))], vec![labels(), labels()]);
        assert!(text.contains("number 1") && text.contains("4 x 5") && text.contains("1 x 3"), "{text}");
        let text = refusal(vec![image(1), image(3)], vec![labels(), labels()]);
        assert!(text.contains("image 1 has 3 channels and image 0 has 1"), "{text}");
        let text = refusal(vec![Image::from_gray(array![[0.0, f32::NAN, 0.0]])], vec![labels()]);
        assert!(text.contains("number 0") && text.contains("NaN"), "{text}");
    }
}
