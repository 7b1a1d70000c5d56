//! Images whose pixels have another physical size than those of the training: they are seen at the size of the training.

use std::borrow::Cow;

use ndarray::Array3;

use super::facade::Model;
use super::options::{PredictOptions, Preset, TrainOptions};
use super::working_scale::{nearest, resample};
use crate::annotations::{Dataset, SparseLabels};
use crate::budget::{Budget, bytes_of};
use crate::error::{Error, Reason, Result, counted};
use crate::raster::{Image, scaled_size};

/// Pixels are of one size when their sides differ by less than this factor: what another sampling would blur is then worth
/// more than what it would gain.
const SAME: f64 = 1.1;

/// A factor above this, or below its inverse, is a mistake in the stated size, not another objective.
const PLAUSIBLE: f64 = 16.0;

/// A size of pixels `[y, x]` in micrometres that some file or caller stated.
///
/// # Errors
/// [`Error::Config`] unless both sides are above 0 and finite.
pub(super) fn check_pixel_size(size: [f64; 2]) -> Result<()> {
    match size.iter().find(|side| !(side.is_finite() && **side > 0.0)) {
        Some(side) => Err(Error::Config(format!("pixel_size is {side}; it must be above 0 micrometres"))
            .because(Reason::out_of_range("pixel_size", *side, 0.0..=f64::INFINITY))),
        None => Ok(()),
    }
}

/// The side of a square pixel of that area.
pub(super) fn side([height, width]: [f64; 2]) -> f64 {
    (height * width).sqrt()
}

/// Whether a factor between two sizes is none.
fn is_same(factor: f64) -> bool {
    (1.0 / SAME..=SAME).contains(&factor)
}

fn is_plausible(factor: f64) -> bool {
    (1.0 / PLAUSIBLE..=PLAUSIBLE).contains(&factor)
}

/// Micrometres with three digits that count.
fn micrometres(side: f64) -> String {
    let decimals = (2 - side.log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{side:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// What training sees: the images at one size of pixels, as far as it is known.
pub(super) struct Sized<'a> {
    pub data: Cow<'a, Dataset>,
    pub validation: Option<Cow<'a, Dataset>>,
    /// That size; `None` when it is not known or the images do not share one.
    pub pixel_size: Option<[f64; 2]>,
    /// What was done, in a sentence.
    pub notes: Vec<String>,
}

impl Model {
    /// Size of the pixels `[y, x]` in micrometres of the images that the model was trained on, when it is known.
    pub fn pixel_size(&self) -> Option<[f64; 2]> {
        self.pixel_size
    }

    /// States the size of the pixels of the images that the model was trained on, for models whose files do not tell it.
    ///
    /// # Errors
    /// [`Error::Config`] unless both sides are above 0 and finite.
    pub fn set_pixel_size(&mut self, size: Option<[f64; 2]>) -> Result<()> {
        size.map_or(Ok(()), check_pixel_size)?;
        self.pixel_size = size;
        Ok(())
    }

    /// How many times as large an image has to be seen for its pixels to have the size of those of the training, and a
    /// sentence on it unless it is 1.
    pub(super) fn zoom(&self, options: &PredictOptions) -> Result<(f64, Option<String>)> {
        let Some(size) = options.pixel_size else { return Ok((1.0, None)) };
        check_pixel_size(size)?;
        let (Some(own), true) = (self.pixel_size, options.rescale) else { return Ok((1.0, None)) };
        let factor = side(size) / side(own);
        if is_same(factor) {
            return Ok((1.0, None));
        }
        let [here, there] = [size, own].map(|size| micrometres(side(size)));
        let sizes = format!("a pixel of the image has {here} micrometres, one of the training {there}");
        if !is_plausible(factor) {
            return Ok((1.0, Some(format!("{sizes}, which cannot be: the image is taken as it is"))));
        }
        Ok((factor, Some(format!("{sizes}: the image is seen at {} times its size", micrometres(factor)))))
    }
}

/// Brings the images of a training to one size of pixels: `own`, that of a model which was trained before, else the
/// median of theirs.
pub(super) fn at_one_pixel_size<'a>(
    own: Option<[f64; 2]>,
    data: &'a Dataset,
    validation: Option<&'a Dataset>,
    options: &TrainOptions,
    budget: Budget,
) -> Result<Sized<'a>> {
    options.pixel_size.map_or(Ok(()), check_pixel_size)?;
    let sizes = |set: &Dataset| -> Vec<Option<[f64; 2]>> {
        set.pixel_sizes().iter().map(|size| options.pixel_size.or(*size)).collect()
    };
    let mut sized = Sized {
        data: Cow::Borrowed(data),
        validation: validation.map(Cow::Borrowed),
        pixel_size: own.or_else(|| median(&sizes(data))),
        notes: Vec::new(),
    };
    let Some(common) = sized.pixel_size else { return Ok(sized) };
    let factors = |set: &Dataset| -> Vec<f64> {
        let factor = |size: Option<[f64; 2]>| size.map_or(1.0, |size| side(size) / side(common));
        sizes(set).into_iter().map(|size| if is_same(factor(size)) { 1.0 } else { factor(size) }).collect()
    };
    let of_training = factors(data);
    let changed: Vec<f64> = of_training.iter().copied().filter(|factor| *factor != 1.0).collect();
    if !changed.is_empty() && (!options.rescale || options.preset == Preset::Reference) {
        sized.notes.push(format!(
            "{} pixels of another size than {} micrometres and taken as they are; the model keeps no pixel size",
            of_images(changed.len(), data.len(), "has", "have"),
            micrometres(side(common))
        ));
        sized.pixel_size = None;
        return Ok(sized);
    }
    if let Some(wrong) = changed.iter().find(|factor| !is_plausible(**factor)) {
        return Err(Error::Config(format!(
            "the images of the training state pixel sizes that differ {:.0} times; state the right one as pixel_size, \
             or let images be taken as they are (rescale off)",
            wrong.max(1.0 / wrong)
        )));
    }
    if let Some(set) = rescaled(data, &of_training, budget)? {
        let unknown = sizes(data).iter().filter(|size| size.is_none()).count();
        let unknown = if unknown > 0 { format!("; {unknown} of unknown pixel size are not") } else { String::new() };
        sized.notes.push(format!(
            "{} scaled to the pixel size of {}, {} micrometres{unknown}",
            of_images(changed.len(), data.len(), "is", "are"),
            if own.is_some() { "the model" } else { "the others" },
            micrometres(side(common))
        ));
        sized.data = Cow::Owned(set);
    }
    if let Some(set) = validation {
        let factors = factors(set).into_iter().map(|factor| if is_plausible(factor) { factor } else { 1.0 });
        let factors: Vec<f64> = factors.collect();
        if options.preset != Preset::Reference
            && let Some(set) = rescaled(set, &factors, budget)?
        {
            sized.validation = Some(Cow::Owned(set));
        }
    }
    Ok(sized)
}

/// `2 of 5 images have`, `1 of 5 images has`.
fn of_images(some: usize, all: usize, one: &str, several: &str) -> String {
    format!("{some} of {} {}", counted(all, "image"), if some == 1 { one } else { several })
}

/// The known size in the middle.
fn median(sizes: &[Option<[f64; 2]>]) -> Option<[f64; 2]> {
    let mut known: Vec<[f64; 2]> = sizes.iter().flatten().copied().collect();
    known.sort_by(|a, b| side(*a).total_cmp(&side(*b)));
    known.get(known.len() / 2).copied()
}

/// The data with every image that many times as large; `None` when all stay as they are.
fn rescaled(data: &Dataset, factors: &[f64], budget: Budget) -> Result<Option<Dataset>> {
    if factors.iter().all(|factor| *factor == 1.0) {
        return Ok(None);
    }
    let mut bytes = 0_u64;
    for (image, factor) in data.images().iter().zip(factors) {
        let (height, width, channels) = image.shape();
        let [rows, columns] = [scaled_size(height, *factor)?.max(1), scaled_size(width, *factor)?.max(1)];
        // Samples and labels, and the image as floats before and after.
        bytes = bytes.saturating_add(bytes_of(&[rows, columns, 2 * channels + 1], 4));
    }
    budget.require(
        bytes,
        format_args!("{} of a training at one pixel size", counted(data.len(), "image")),
        "take fewer or smaller images, switch rescaling off, or allow more memory",
    )?;
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for ((image, drawn), factor) in data.images().iter().zip(data.labels()).zip(factors) {
        images.push(scaled_image(image, *factor)?);
        labels.push(scaled_labels(drawn, *factor)?);
    }
    Dataset::new(images, labels).map(Some)
}

/// The image that many times as large, in the type that it has.
fn scaled_image(image: &Image, factor: f64) -> Result<Image> {
    if factor == 1.0 {
        return Ok(image.clone());
    }
    let scaled: Array3<f32> = resample(image.try_to_f32()?.into(), factor)?.into_owned();
    Ok(match image {
        Image::U8(_) => Image::U8(scaled.mapv(|value| value.round() as u8)),
        Image::U16(_) => Image::U16(scaled.mapv(|value| value.round() as u16)),
        Image::F32(_) => Image::F32(scaled),
    })
}

/// The labels of that image: those of the nearest pixels.
fn scaled_labels(drawn: &SparseLabels, factor: f64) -> Result<SparseLabels> {
    if factor == 1.0 {
        return Ok(drawn.clone());
    }
    let (height, width) = drawn.labels().dim();
    let [rows, columns] = [scaled_size(height, factor)?.max(1), scaled_size(width, factor)?.max(1)];
    let scaled = SparseLabels::from_signed(nearest(drawn.labels(), rows, columns)?)?;
    let Some(classes) = drawn.classes() else { return Ok(scaled) };
    let left = classes.iter().filter(|(id, _)| scaled.areas().contains_key(id));
    let left = left.map(|(id, class)| (*id, *class)).collect();
    scaled.with_classes(left)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, s};

    use super::*;
    use crate::networks::StarDistConfig;
    use crate::raster::LabelImage;

    /// Images of 60 x 60 pixels with one square cell of those sides each.
    fn set(sides: &[usize]) -> Dataset {
        let mut images = Vec::new();
        let mut labels = Vec::new();
        for side in sides {
            let mut drawn = LabelImage::from_elem((60, 60), -1);
            drawn.row_mut(0).fill(0);
            drawn.slice_mut(s![10..10 + side, 20..20 + side]).fill(4);
            let pixels = drawn.mapv(|label| if label > 0 { 200_u8 } else { 10 });
            images.push(Image::U8(Array3::from_shape_fn((60, 60, 1), |(y, x, _)| pixels[[y, x]])));
            let labels_of = SparseLabels::from_signed(drawn).unwrap();
            labels.push(labels_of.with_classes([(4, Some(2))].into()).unwrap());
        }
        Dataset::new(images, labels).unwrap()
    }

    fn model() -> Model {
        let config = StarDistConfig { n_filter_base: 2, n_depth: 1, n_rays: 8, ..StarDistConfig::default() };
        Model::stardist(config, 0).unwrap()
    }

    fn sized(model: &Model, data: &Dataset, options: &TrainOptions) -> (Vec<(usize, f64)>, Option<[f64; 2]>, usize) {
        let own = model.pixel_size.filter(|_| !model.untrained);
        let sized = at_one_pixel_size(own, data, None, options, Budget::of_free_memory()).unwrap();
        let seen = sized.data.images().iter().zip(sized.data.labels());
        let seen = seen.map(|(image, labels)| (image.height(), labels.median_diameter().round()));
        (seen.collect(), sized.pixel_size, sized.notes.len())
    }

    #[test]
    fn images_of_a_training_come_to_the_size_in_the_middle() {
        let data = set(&[20, 20, 10, 20]);
        let known = data.clone().with_pixel_sizes(vec![Some([0.5; 2]), Some([0.52; 2]), Some([1.0; 2]), None]).unwrap();
        let (seen, size, notes) = sized(&model(), &known, &TrainOptions::default());
        // Squares of side 20 have the area of discs of diameter 23: the third image's cell now has it too.
        assert_eq!(seen, [(60, 23.0), (60, 23.0), (115, 21.0), (60, 23.0)]);
        assert_eq!((size, notes), (Some([0.52; 2]), 1));
        // Nothing is known, or everything is alike.
        assert_eq!(sized(&model(), &data, &TrainOptions::default()).1, None);
        let all = TrainOptions { pixel_size: Some([0.3, 0.3]), ..TrainOptions::default() };
        let (seen, size, notes) = sized(&model(), &known, &all);
        assert_eq!((seen[2], size, notes), ((60, 11.0), Some([0.3; 2]), 0));
        // Switched off, the model has no pixel size.
        let off = TrainOptions { rescale: false, ..TrainOptions::default() };
        let (seen, size, notes) = sized(&model(), &known, &off);
        assert_eq!((seen[2], size, notes), ((60, 11.0), None, 1));
        // A trained model keeps its own size.
        let mut trained = model();
        trained.untrained = false;
        trained.set_pixel_size(Some([1.0; 2])).unwrap();
        let (seen, size, _) = sized(&trained, &known, &TrainOptions::default());
        assert_eq!((seen[0].0, seen[2].0, seen[3].0, size), (30, 60, 60, Some([1.0; 2])));
    }

    #[test]
    fn impossible_sizes_are_refused_and_unlikely_ones_said() {
        let data = set(&[20, 20]);
        let apart = data.clone().with_pixel_sizes(vec![Some([0.5; 2]), Some([500.0; 2])]).unwrap();
        let error = at_one_pixel_size(None, &apart, None, &TrainOptions::default(), Budget::of_free_memory());
        assert!(error.err().unwrap().to_string().contains("differ 1000 times"));
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(model().set_pixel_size(Some([0.5, wrong])).is_err());
            assert!(data.clone().with_pixel_sizes(vec![None, Some([wrong, 0.5])]).is_err());
            let options = PredictOptions { pixel_size: Some([wrong; 2]), ..PredictOptions::default() };
            assert!(model().zoom(&options).is_err());
        }
        let mut model = model();
        let options = |side| PredictOptions { pixel_size: Some([side; 2]), ..PredictOptions::default() };
        assert_eq!(model.zoom(&options(1.0)).unwrap(), (1.0, None));
        model.set_pixel_size(Some([0.5; 2])).unwrap();
        assert_eq!(model.zoom(&PredictOptions::default()).unwrap(), (1.0, None));
        assert_eq!(model.zoom(&options(0.54)).unwrap(), (1.0, None));
        let (factor, note) = model.zoom(&options(0.25)).unwrap();
        assert_eq!(factor, 0.5);
        assert_eq!(
            note.unwrap(),
            "a pixel of the image has 0.25 micrometres, one of the training 0.5: the image is seen at 0.5 times its size"
        );
        assert_eq!(model.zoom(&PredictOptions { rescale: false, ..options(0.25) }).unwrap(), (1.0, None));
        let (factor, note) = model.zoom(&options(25_400.0)).unwrap();
        assert!(factor == 1.0 && note.unwrap().contains("25400 micrometres, one of the training 0.5, which cannot be"));
    }

    #[test]
    fn samples_and_classes_stay() {
        let data = set(&[20]);
        let half = rescaled(&data, &[0.5], Budget::of_free_memory()).unwrap().unwrap();
        let Image::U8(pixels) = &half.images()[0] else { panic!("another type of samples") };
        assert_eq!((pixels.dim(), pixels[[10, 15, 0]], pixels[[25, 5, 0]]), ((30, 30, 1), 200, 10));
        assert_eq!(half.labels()[0].classes(), Some(&[(4, Some(2))].into()));
        assert_eq!(half.labels()[0].areas()[&4], 100);
        let little = Budget::new(1000).unwrap();
        assert!(matches!(rescaled(&data, &[0.5], little), Err(Error::Limit(_))));
    }
}
