//! Images with their annotations.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_char;
use std::mem;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cellsparse_core::annotations::advice;
use cellsparse_core::error::{Reason, counted};
use cellsparse_core::pseudo_labels::doubtful_background;
use cellsparse_core::{Dataset, Error, Image, SparseLabels};

use crate::boundary::enter;
use crate::handles::{Behind, Table};
use crate::pointers::{array, expect, given, put, put_text};
use crate::polygons::{cellsparse_polygon, draw};
use crate::status::{Failure, Outcome, cellsparse_status};
use crate::views::{cellsparse_image, cellsparse_labels};

/// Images with their sparse labels, to train on. Opaque.
pub struct cellsparse_dataset {
    _opaque: (),
}

/// Pairs of an image and its labels, and the data set of them once it was needed.
#[derive(Default)]
pub(crate) struct Contents {
    images: Vec<Image>,
    labels: Vec<SparseLabels>,
    /// Height and width of the pixels in micrometres, where they are known.
    sizes: Vec<Option<[f64; 2]>>,
    whole: Option<Arc<Dataset>>,
}

/// The lock is never held for long: pixels are copied before it is taken and advice is found after it, so its callers wait.
pub(crate) struct Pairs(Mutex<Contents>);

impl Behind for Pairs {
    type Token = cellsparse_dataset;
    const NAME: &'static str = "dataset";

    fn table() -> &'static Table<Self> {
        static TABLE: Table<Pairs> = Table::new();
        &TABLE
    }
}

impl Pairs {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All pairs as the library trains on them.
    pub fn dataset(&self) -> Outcome<Arc<Dataset>> {
        let mut contents = self.lock();
        if let Some(whole) = &contents.whole {
            return Ok(Arc::clone(whole));
        }
        if contents.images.is_empty() {
            return Err(Error::Image("the dataset is empty; add at least one image with its labels".into()).into());
        }
        // What cannot be trained on stays, so that more can be added.
        if contents.labels.iter().all(|labels| labels.object_count() == 0) {
            return Err(Error::Labels("no cell is drawn in any image; draw at least one whole cell".into()).into());
        }
        let (images, labels) = (mem::take(&mut contents.images), mem::take(&mut contents.labels));
        let sizes = mem::take(&mut contents.sizes);
        let whole = Arc::new(Dataset::new(images, labels)?.with_pixel_sizes(sizes)?);
        contents.whole = Some(Arc::clone(&whole));
        Ok(whole)
    }
}

impl Contents {
    fn images(&self) -> &[Image] {
        self.whole.as_ref().map_or(&self.images, |whole| whole.images())
    }

    fn labels(&self) -> &[SparseLabels] {
        self.whole.as_ref().map_or(&self.labels, |whole| whole.labels())
    }

    /// The pairs, separate again so that they can be changed.
    fn parts(&mut self) -> &mut Self {
        if let Some(whole) = self.whole.take() {
            // Copied only while a training reads it.
            let whole = Arc::try_unwrap(whole).unwrap_or_else(|shared| Dataset::clone(&shared));
            self.sizes = whole.pixel_sizes().to_vec();
            (self.images, self.labels) = whole.into_parts();
        }
        self
    }

    fn add(&mut self, image: Image, labels: SparseLabels) -> Outcome<()> {
        let number = self.images().len();
        if let Some(first) = self.images().first().filter(|first| first.channels() != image.channels()) {
            return Err(Error::Image(format!(
                "image {number} has {} and image 0 has {}; all must have the same number",
                counted(image.channels(), "channel"),
                first.channels()
            ))
            .because(Reason::channels(image.channels(), first.channels()))
            .into());
        }
        labels.check_fits(&image)?;
        let parts = self.parts();
        parts.images.push(image);
        parts.labels.push(labels);
        parts.sizes.push(None);
        Ok(())
    }
}

/// Makes an empty dataset. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_dataset_new(
    dataset_out: Option<&mut MaybeUninit<*mut cellsparse_dataset>>,
) -> cellsparse_status {
    enter(|| Pairs(Mutex::default()).publish(dataset_out, "dataset_out"))
}

/// Adds a copy of an image and of its sparse labels, a label image of the same size. All images of a dataset have the same
/// number of channels. On failure the dataset is as it was.
///
/// Any thread; a dataset is never busy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_dataset_add(
    dataset: *mut cellsparse_dataset,
    image: Option<&cellsparse_image>,
    labels: Option<&cellsparse_labels>,
) -> cellsparse_status {
    enter(|| {
        let pairs = Pairs::find(dataset)?;
        let (image, labels) = (given(image, "image")?, given(labels, "labels")?);
        // SAFETY: the caller's promise about the buffer of the image.
        let image = unsafe { image.to_image() }?;
        image.check()?;
        // SAFETY: the caller's promise about the buffer of the labels.
        let labels = unsafe { labels.to_sparse_labels() }?;
        pairs.lock().add(image, labels)
    })
}

/// Adds a copy of an image with its annotations drawn as polygons: each foreground polygon is one object, background
/// polygons are background, and everything else is unlabelled. Foreground wins over background, and a later foreground
/// polygon over an earlier one; what lies outside the image is cut off. On failure the dataset is as it was.
///
/// Any thread; a dataset is never busy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_dataset_add_polygons(
    dataset: *mut cellsparse_dataset,
    image: Option<&cellsparse_image>,
    polygons: *const cellsparse_polygon,
    n_polygons: usize,
) -> cellsparse_status {
    enter(|| {
        let pairs = Pairs::find(dataset)?;
        // SAFETY: the caller's promise about the buffer of the image.
        let image = unsafe { given(image, "image")?.to_image() }?;
        image.check()?;
        // SAFETY: the caller's promise about its arrays.
        let drawn = unsafe { draw(polygons, n_polygons, (image.height(), image.width())) }?;
        pairs.lock().add(image, SparseLabels::from_signed(drawn)?)
    })
}

/// Says of which class objects of an image are, for a StarDist network with classes: `classes[i]`, from 1, is the class of
/// the object `ids[i]` of image `index` (counted from 0). Objects that are not named have no known class. On failure the
/// dataset is as it was.
///
/// Any thread; a dataset is never busy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_dataset_set_classes(
    dataset: *mut cellsparse_dataset,
    index: usize,
    ids: *const i32,
    classes: *const u32,
    count: usize,
) -> cellsparse_status {
    enter(|| {
        let pairs = Pairs::find(dataset)?;
        // SAFETY: the caller's promise about its arrays.
        let ids = unsafe { array(ids, count, "ids") }?;
        // SAFETY: the caller's promise about its arrays.
        let classes = unsafe { array(classes, count, "classes") }?;
        let classes: BTreeMap<i32, Option<u32>> = ids.iter().copied().zip(classes.iter().copied().map(Some)).collect();
        let mut contents = pairs.lock();
        let there = contents.labels().len();
        let labels = contents.labels().get(index).cloned().ok_or_else(|| {
            Failure::argument(format!("there is no image {index} (counted from 0); the dataset has {there}"))
        })?;
        let labels = labels.with_classes(classes)?;
        if let Some(slot) = contents.parts().labels.get_mut(index) {
            *slot = labels;
        }
        Ok(())
    })
}

/// Says how large the pixels of image `index` (counted from 0) are, in micrometres. Images of different pixel sizes are
/// brought to one by a training; see cellsparse_model_train(). On failure the dataset is as it was.
///
/// Any thread; a dataset is never busy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_dataset_set_pixel_size(
    dataset: *mut cellsparse_dataset,
    index: usize,
    height: f64,
    width: f64,
) -> cellsparse_status {
    enter(|| {
        let pairs = Pairs::find(dataset)?;
        for side in [height, width] {
            if !(side.is_finite() && side > 0.0) {
                return Err(Failure::argument(format!("a pixel of {side} micrometres; it must be above 0")));
            }
        }
        let mut contents = pairs.lock();
        let there = contents.labels().len();
        let slot = contents.parts().sizes.get_mut(index).ok_or_else(|| {
            Failure::argument(format!("there is no image {index} (counted from 0); the dataset has {there}"))
        })?;
        *slot = Some([height, width]);
        Ok(())
    })
}

/// The number of images. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_dataset_size(
    dataset: *const cellsparse_dataset,
    size_out: Option<&mut MaybeUninit<usize>>,
) -> cellsparse_status {
    enter(|| {
        let pairs = Pairs::find(dataset)?;
        let size = pairs.lock().images().len();
        put(size_out, size, "size_out")
    })
}

/// What would make the annotations more useful, as a JSON array of sentences, each of them once; [] when there is nothing
/// to say. Free the text with cellsparse_string_free(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_dataset_advice(
    dataset: *const cellsparse_dataset,
    json_out: Option<&mut MaybeUninit<*const c_char>>,
) -> cellsparse_status {
    enter(|| {
        expect(&json_out, "json_out")?;
        let pairs = Pairs::find(dataset)?;
        // Copies, so that nobody waits for the advice.
        let (images, labels) = {
            let contents = pairs.lock();
            let images: Vec<_> = contents.images().iter().take(LOOKED_AT).cloned().collect();
            (images, contents.labels().to_vec())
        };
        let doubts = images.iter().zip(&labels);
        let doubts = doubts.filter_map(|(image, labels)| doubtful_background(image.to_f32().view(), labels.labels()));
        let mut hints: Vec<String> = doubts.chain(labels.iter().flat_map(advice)).collect();
        let mut seen = BTreeSet::new();
        hints.retain(|hint| seen.insert(hint.clone()));
        put_text(json_out, serde_json::to_string(&hints).map_err(Failure::internal)?, "json_out")
    })
}

/// Images whose declared background is compared with their drawn cells, at most.
const LOOKED_AT: usize = 8;

/// Frees a dataset. Any thread; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_dataset_free(dataset: *mut cellsparse_dataset) -> cellsparse_status {
    enter(|| Pairs::free(dataset))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, array};

    use super::*;

    fn pair() -> (Image, SparseLabels) {
        let image = Image::U8(Array3::from_shape_fn((2, 3, 1), |(y, x, _)| (y * 3 + x) as u8));
        (image, SparseLabels::from_signed(array![[-1, 0, 1], [2, 2, 0]]).unwrap())
    }

    fn first_pixel(image: &Image) -> *const u8 {
        match image {
            Image::U8(pixels) => pixels.as_ptr(),
            _ => panic!("the image is one of bytes"),
        }
    }

    #[test]
    fn what_is_there_is_copied_only_while_a_training_reads_it() {
        let pairs = Pairs(Mutex::default());
        let add = || {
            let (image, labels) = pair();
            pairs.lock().add(image, labels).unwrap();
        };
        add();
        let place = first_pixel(&pairs.lock().images()[0]);
        drop(pairs.dataset().unwrap());
        add();
        assert_eq!(
            first_pixel(&pairs.lock().images()[0]),
            place,
            "a training that is over leaves the pixels where they are"
        );
        let reading = pairs.dataset().unwrap();
        add();
        assert_eq!((reading.len(), pairs.lock().images().len()), (2, 3), "a training sees what it began with");
        assert_eq!(first_pixel(&reading.images()[0]), place);
    }
}
