//! Images in memory of which a prediction as a whole would take more than it may: they are segmented by parts.

use super::blocks::BLOCK;
use super::run::run;
use super::{LargeOptions, MemorySink};
use crate::budget::{Budget, bytes_of};
use crate::control::Flow;
use crate::error::{ErrorKind, Result};
use crate::model::large::Context;
use crate::model::{Model, PredictOptions, Segmentation};
use crate::raster::Image;
use crate::raster::regions::ImageRegions;

impl Model {
    /// Segments an image as [`predict`](Self::predict) does, and by parts as [`predict_large`](Self::predict_large) does when
    /// that would take more memory than allowed, which a note then says; see [`large`](crate::large) for what is equal.
    ///
    /// By parts, the labels of the image and a few parts of it are held beside the image itself, and what is found is kept in a
    /// temporary folder meanwhile. Objects then have no polygon: outlines are had from the labels. Where there is not even memory
    /// for the samples as 32-bit numbers, percentiles are those of [`predict_large`](Self::predict_large), and parts that show nothing
    /// are left out.
    ///
    /// # Errors
    /// As [`predict`](Self::predict); [`Error::Limit`](crate::Error::Limit) for an image of which not even parts fit into the memory.
    pub fn predict_whole_or_by_parts(&self, image: Image, options: &PredictOptions) -> Result<Segmentation> {
        segment(self, image, options, BLOCK)
    }
}

/// Segments an image, if it must be in blocks of `side` pixels.
fn segment(model: &Model, image: Image, options: &PredictOptions, side: usize) -> Result<Segmentation> {
    match model.predict(&image, options) {
        Err(refused) if refused.kind() == ErrorKind::Limit => {}
        answer => return answer,
    }
    let budget = options.memory.unwrap_or_else(Budget::of_free_memory);
    let (height, width, channels) = image.shape();
    let labels = bytes_of(&[height, width], 4);
    budget.require(
        labels,
        format_args!("the labels of an image of {height} x {width} pixels"),
        "cut it into parts, or allow more memory",
    )?;
    // All samples, and those of one channel again: whoever has room for them has compared the whole image with the training.
    let looked_at = bytes_of(&[height, width, channels], 4).saturating_add(labels) <= budget.left();
    let large = LargeOptions {
        predict: PredictOptions { memory: Some(budget.less(labels)), ..options.clone() },
        skip_empty: !looked_at,
        ..LargeOptions::default()
    };
    let mut sink = MemorySink::default();
    let summary = model.in_pool(options.threads, || {
        let known = looked_at.then(|| Context::of_whole(model, &image, options)).transpose()?;
        let reader = ImageRegions::new(image, None)?;
        run(known, model, &reader, &large, side, &mut [&mut sink], &mut |_| Flow::Continue)
    })?;
    let mut found = sink.into_segmentation();
    found.notes = summary.notes;
    found
        .notes
        .push(format!("the image was segmented by parts, since all of it would take more than {budget} of memory"));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, Axis, concatenate};

    use super::super::tests::{assert_alike, field, model};
    use super::*;
    use crate::annotations::{Dataset, SparseLabels};
    use crate::error::Error;
    use crate::model::{Algorithm, TrainOptions};
    use crate::networks::StarDistConfig;
    use crate::random::Random;
    use crate::synthetic::{AnnotationOptions, annotate};

    /// Side of the blocks.
    const SIDE: usize = 256;

    /// A field beside itself, again and again, each time darker, so that no two cells are equally probable.
    fn repeated([down, across]: [usize; 2]) -> Image {
        let Image::U8(one) = field(250, 250, 5).image else { panic!("fields are 8 bit") };
        let faded = |place: usize| one.mapv(|value| (f32::from(value) * (1.0 - 0.02 * place as f32)) as u8);
        let row = |row: usize| {
            let all: Vec<_> = (0..across).map(|column| faded(row * across + column)).collect();
            concatenate(Axis(1), &all.iter().map(|one| one.view()).collect::<Vec<_>>()).unwrap()
        };
        let rows: Vec<_> = (0..down).map(row).collect();
        Image::U8(concatenate(Axis(0), &rows.iter().map(|row| row.view()).collect::<Vec<_>>()).unwrap())
    }

    /// A network that takes little memory beside what an image takes.
    fn small() -> Model {
        let field = field(160, 160, 1);
        let labels = SparseLabels::from_signed(annotate(&field, &AnnotationOptions::default(), 1)).unwrap();
        let data = Dataset::new(vec![field.image], vec![labels]).unwrap();
        let config = StarDistConfig { n_filter_base: 4, n_depth: 1, net_conv_after_unet: 8, ..Default::default() };
        let mut model = Model::stardist(config, 1).unwrap();
        let options =
            TrainOptions { steps: Some(60), batch_size: Some(2), patch_size: Some(96), ..TrainOptions::default() };
        model.train(&data, None, &options, &mut |_| Flow::Continue).unwrap();
        model
    }

    fn with(memory: &str) -> PredictOptions {
        PredictOptions { memory: Some(memory.parse().unwrap()), ..PredictOptions::default() }
    }

    #[test]
    fn stars_in_scarce_memory_are_those_of_the_whole_image_but_for_rounding() {
        let (model, image) = (small(), repeated([4, 4]));
        let whole = model.predict(&image, &PredictOptions::default()).unwrap();
        assert!(whole.objects.len() > 50, "{} objects", whole.objects.len());
        let same = segment(&model, image.clone(), &PredictOptions::default(), SIDE).unwrap();
        assert_eq!((&same.labels, &same.objects, &same.notes), (&whole.labels, &whole.objects, &whole.notes));
        // With the samples as 32-bit numbers, 4 million bytes of them, and without.
        for memory in ["11M", "7.5M"] {
            let scarce = with(memory);
            assert!(matches!(model.predict(&image, &scarce), Err(Error::Limit(_))), "{memory}");
            let found = segment(&model, image.clone(), &scarce, SIDE).unwrap();
            assert!(found.notes.last().unwrap().contains("by parts"), "{:?}", found.notes);
            assert_alike(&found, &whole, memory);
            scarce.cancel.cancel();
            assert!(matches!(segment(&model, image.clone(), &scarce, SIDE), Err(Error::Cancelled)));
        }
        let refused = segment(&model, image, &with("3M"), SIDE).unwrap_err().to_string();
        assert!(refused.contains("the labels of an image of 1000 x 1000 pixels"), "{refused}");
    }

    #[test]
    fn cells_in_scarce_memory_are_those_of_the_whole_image_but_for_rounding() {
        let image = repeated([3, 8]);
        for (algorithm, memory) in [(Algorithm::Cellpose, "140M"), (Algorithm::Elephant, "110M")] {
            let model = model(algorithm);
            let tile = (algorithm == Algorithm::Elephant).then_some(256);
            let generous = PredictOptions { tile, ..PredictOptions::default() };
            let whole = model.predict(&image, &generous).unwrap();
            assert!(whole.objects.len() > 50, "{algorithm}: {}", whole.objects.len());
            let scarce = PredictOptions { memory: Some(memory.parse().unwrap()), ..generous };
            assert!(matches!(model.predict(&image, &scarce), Err(Error::Limit(_))), "{algorithm}");
            let found = segment(&model, image.clone(), &scarce, SIDE).unwrap();
            assert_alike(&found, &whole, algorithm.name());
        }
    }

    #[test]
    fn an_image_with_nothing_in_it_shows_nothing_in_scarce_memory_too() {
        let (model, mut random) = (small(), Random::new(3, 0));
        let noise = Array3::from_shape_fn((1000, 1000, 1), |_| (100.0 + 5.0 * random.normal()) as u8);
        for memory in ["1G", "11M", "7.5M"] {
            let found = segment(&model, Image::U8(noise.clone()), &with(memory), SIDE).unwrap();
            assert!(found.objects.is_empty() && found.labels.iter().all(|label| *label == 0), "{memory}");
            assert!(found.notes.iter().any(|note| note.starts_with("nothing found")), "{:?}", found.notes);
        }
    }
}
