//! The phases that are looked at, each on an input that takes long.

use std::path::PathBuf;
use std::sync::Arc;

use cellsparse_core::annotations::SparseLabels;
use cellsparse_core::formats::geojson::{GeoJsonOptions, to_geojson_until};
use cellsparse_core::formats::write_ome_tiff;
use cellsparse_core::geometry::diffusion::{FlowRule, label_flows_until};
use cellsparse_core::large::{GeoJsonSink, LargeOptions, LargeSink, PyramidSink};
use cellsparse_core::model::{
    Algorithm, Architecture, PredictOptions, Preset, Start, Starter, TrainOptions, choose_algorithm,
};
use cellsparse_core::networks::{CellposeConfig, ElephantConfig};
use cellsparse_core::postprocess::StarCandidates;
use cellsparse_core::postprocess::masks::{MaskOptions, compute_masks_until};
use cellsparse_core::postprocess::nms::non_maximum_suppression_until;
use cellsparse_core::postprocess::stars::coord_to_label_until;
use cellsparse_core::postprocess::watershed::watershed_until;
use cellsparse_core::raster::regions::{CallbackRegions, Extent, Region};
use cellsparse_core::raster::{
    Connectivity, ReadLimits, ReadOptions, read_image_with, read_label_file_with, write_gray_png16,
};
use cellsparse_core::synthetic::{FieldOptions, draw_field};
use cellsparse_core::{CancelToken, ControlFlow, Dataset, Image, LabelImage, Model, Result, StarDistConfig};
use ndarray::{Array2, Array3};

use super::{Watch, Work};

/// A phase: its name, and what makes the work.
type Phase = (&'static str, fn() -> Result<Work>);

/// Every phase.
pub const ALL: &[Phase] = &[
    ("reading: PNG of 10,000 x 10,000, 16 bits", png),
    ("reading: labels in a PNG of 10,000 x 10,000", png_labels),
    ("reading: deflated TIFF of 10,000 x 10,000, 32 bits", tiff),
    ("targets: flows of one cell of 4,000 x 4,000", one_cell),
    ("targets: flows of one cell of 1 x 1,000,000", one_line),
    ("training: StarDist on 3,000 x 3,000 with 15,000 cells, before the first step", || prepared(Algorithm::Stardist)),
    ("training: Cellpose on 3,000 x 3,000 with 15,000 cells, before the first step", || prepared(Algorithm::Cellpose)),
    ("training: ELEPHANT on 3,000 x 3,000 with 15,000 cells, before the first step", || prepared(Algorithm::Elephant)),
    ("training: StarDist, steps of 8 patches of 224", || steps(Algorithm::Stardist, 224)),
    ("training: Cellpose, steps of 8 patches of 224", || steps(Algorithm::Cellpose, 224)),
    ("training: ELEPHANT, steps of 8 patches of 224", || steps(Algorithm::Elephant, 224)),
    ("training: StarDist, steps of 8 patches of 512", || steps(Algorithm::Stardist, 512)),
    ("training: Cellpose, steps of 8 patches of 512", || steps(Algorithm::Cellpose, 512)),
    ("training: validation of StarDist on 4 images of 1,000 x 1,000", validation),
    ("training: thresholds and comparison of StarDist", || thresholds(Algorithm::Stardist)),
    ("training: thresholds and comparison of Cellpose", || thresholds(Algorithm::Cellpose)),
    ("training: thresholds and comparison of ELEPHANT", || thresholds(Algorithm::Elephant)),
    ("training: choice of the algorithm", choice),
    ("prediction: StarDist on 4,000 x 4,000", || predicted(Algorithm::Stardist)),
    ("prediction: Cellpose on 4,000 x 4,000", || predicted(Algorithm::Cellpose)),
    ("prediction: ELEPHANT on 4,000 x 4,000", || predicted(Algorithm::Elephant)),
    ("prediction: StarDist, low threshold, 2,000 x 2,000", crowded),
    ("prediction: StarDist by parts on 6,000 x 6,000", || large(Algorithm::Stardist)),
    ("prediction: Cellpose by parts on 6,000 x 6,000", || large(Algorithm::Cellpose)),
    ("prediction: ELEPHANT by parts on 6,000 x 6,000", || large(Algorithm::Elephant)),
    ("objects: suppression of 120,000 candidates in one place", || suppression(0.999)),
    ("objects: suppression with threshold 1", || suppression(1.0)),
    ("objects: painting of 200,000 polygons", painting),
    ("objects: watershed of 6,000 x 6,000, noise of 8 bits", || flood(255.0)),
    ("objects: watershed of 6,000 x 6,000, noise of 24 bits", || flood(16_777_216.0)),
    ("objects: flow following and masks of 4,000 x 4,000", masks),
    ("results: outlines of 4,000 x 4,000 as GeoJSON", outlines),
];

/// Whole numbers that look like noise.
fn noise(y: usize, x: usize) -> u32 {
    let mixed = ((y as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (x as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
        .wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed >> 32) as u32
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("cellsparse-stop-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn begun(work: impl Fn(&CancelToken) -> Result<()> + Send + Sync + 'static) -> Result<Work> {
    Ok(Box::new(move |watch: &Watch| {
        watch.begins();
        work(&watch.cancel)
    }))
}

fn reading(cancel: &CancelToken) -> ReadOptions {
    ReadOptions { cancel: cancel.clone(), ..ReadOptions::from(ReadLimits::default()) }
}

fn large_png() -> Result<PathBuf> {
    let path = folder().join("a.png");
    write_gray_png16(&path, Array2::from_shape_fn((10_000, 10_000), |(y, x)| noise(y, x) as u16 & 0x3ff).view())?;
    Ok(path)
}

fn png() -> Result<Work> {
    let path = large_png()?;
    begun(move |cancel| read_image_with(&path, &reading(cancel)).map(drop))
}

fn png_labels() -> Result<Work> {
    let path = large_png()?;
    begun(move |cancel| read_label_file_with(&path, &reading(cancel)).map(drop))
}

fn tiff() -> Result<Work> {
    let path = folder().join("a.tif");
    write_ome_tiff(
        &path,
        "a",
        &Array2::from_shape_fn((10_000, 10_000), |(y, x)| (noise(y, x) & 0xf_ffff) as i32),
        None,
    )?;
    begun(move |cancel| read_label_file_with(&path, &reading(cancel)).map(drop))
}

fn one_cell() -> Result<Work> {
    let labels = LabelImage::ones((4000, 4000));
    begun(move |cancel| label_flows_until(labels.view(), FlowRule::Reference, cancel).map(drop))
}

fn one_line() -> Result<Work> {
    let labels = LabelImage::ones((1, 1_000_000));
    begun(move |cancel| label_flows_until(labels.view(), FlowRule::Reference, cancel).map(drop))
}

/// Square cells on a lattice with that distance, of which the left tenth is unlabelled.
fn lattice(size: usize, distance: usize) -> Result<Dataset> {
    let across = size / distance + 1;
    let inside = |y: usize, x: usize| y % distance < distance - 3 && x % distance < distance - 3;
    let labels = LabelImage::from_shape_fn((size, size), |(y, x)| match (inside(y, x), x > size / 10) {
        (_, false) => -1,
        (true, _) => (y / distance * across + x / distance + 1) as i32,
        _ => 0,
    });
    let pixel = |(y, x)| (if inside(y, x) { 150.0 } else { 20.0 }) + (noise(y, x) % 11) as f32;
    let image = Image::from_gray(Array2::from_shape_fn((size, size), pixel));
    Dataset::new(vec![image], vec![SparseLabels::from_signed(labels)?])
}

fn tiny(algorithm: Algorithm) -> Result<Model> {
    let widths = vec![2, 2];
    match algorithm {
        Algorithm::Stardist => Model::stardist(
            StarDistConfig { n_filter_base: 4, n_depth: 1, net_conv_after_unet: 8, ..StarDistConfig::default() },
            0,
        ),
        Algorithm::Cellpose => Model::cellpose(CellposeConfig { widths, ..CellposeConfig::default() }, 0),
        _ => Model::elephant(ElephantConfig { widths, ..ElephantConfig::default() }, 0),
    }
}

fn one_step(cancel: &CancelToken) -> TrainOptions {
    TrainOptions {
        steps: Some(1),
        batch_size: Some(1),
        patch_size: Some(64),
        start: Start::None,
        keep_thresholds: true,
        cancel: cancel.clone(),
        ..TrainOptions::default()
    }
}

fn prepared(algorithm: Algorithm) -> Result<Work> {
    let (data, model) = (lattice(3000, 24)?, tiny(algorithm)?);
    begun(move |cancel| model.clone().train(&data, None, &one_step(cancel), &mut |_| ControlFlow::Continue).map(drop))
}

/// Steps of the usual network, from the second one on, without what makes a stopped training usable.
fn steps(algorithm: Algorithm, patch: usize) -> Result<Work> {
    let (data, model) = (lattice(600, 24)?, Model::new(Architecture::of(algorithm, 1), 0)?);
    Ok(Box::new(move |watch: &Watch| {
        let options = TrainOptions {
            steps: Some(4),
            batch_size: Some(8),
            patch_size: Some(patch),
            preset: Preset::Reference,
            cancel: watch.cancel.clone(),
            ..TrainOptions::default()
        };
        let ended = model.clone().train(&data, None, &options, &mut |event| {
            if event.step == 1 {
                watch.begins();
            }
            // What follows the steps is another phase.
            if event.step == 4 { ControlFlow::Stop } else { ControlFlow::Continue }
        });
        ended.map(drop)
    }))
}

fn validation() -> Result<Work> {
    let (data, one) = (lattice(256, 24)?, lattice(1000, 24)?);
    let images = vec![one.images()[0].clone(); 4];
    let labels = vec![one.labels()[0].clone(); 4];
    let set = Dataset::new(images, labels)?;
    let model = Model::new(Architecture::of(Algorithm::Stardist, 1), 0)?;
    Ok(Box::new(move |watch: &Watch| {
        let options = TrainOptions { steps: Some(2), keep_thresholds: true, ..one_step(&watch.cancel) };
        watch.begins();
        model.clone().train(&data, Some(&set), &options, &mut |_| ControlFlow::Continue).map(drop)
    }))
}

/// What follows the last step of a training that was not stopped.
fn thresholds(algorithm: Algorithm) -> Result<Work> {
    let (data, model) = (lattice(2000, 24)?, Model::new(Architecture::of(algorithm, 1), 0)?);
    Ok(Box::new(move |watch: &Watch| {
        let options = TrainOptions {
            steps: Some(2),
            batch_size: Some(1),
            patch_size: Some(64),
            cancel: watch.cancel.clone(),
            ..TrainOptions::default()
        };
        let ended = model.clone().train(&data, None, &options, &mut |event| {
            if event.step == 2 {
                watch.begins();
            }
            ControlFlow::Continue
        });
        ended.map(drop)
    }))
}

fn choice() -> Result<Work> {
    let data = lattice(1500, 24)?;
    begun(move |cancel| {
        let options = TrainOptions { cancel: cancel.clone(), ..TrainOptions::default() };
        choose_algorithm(&data, &options).map(drop)
    })
}

/// A model with its starting weights.
fn started(algorithm: Algorithm) -> Result<Model> {
    let mut model = Model::new(Architecture::of(algorithm, 1), 0)?;
    if let Some(starter) = Starter::shipped(algorithm)? {
        model.begin_with(&starter)?.expect("weights that fit");
    }
    Ok(model)
}

/// A drawn field of 512 pixels, repeated.
fn field() -> Result<Arc<dyn Fn(usize, usize) -> u8 + Send + Sync>> {
    let field = draw_field(&FieldOptions { height: 512, width: 512, ..FieldOptions::default() }, 3)?;
    let pixels = field.image.to_f32();
    Ok(Arc::new(move |y, x| pixels[[y % 512, x % 512, 0]] as u8))
}

fn predicted(algorithm: Algorithm) -> Result<Work> {
    let (model, pixel) = (started(algorithm)?, field()?);
    let image = Image::from_gray(Array2::from_shape_fn((4000, 4000), |(y, x)| f32::from(pixel(y, x))));
    begun(move |cancel| {
        let options = PredictOptions { cancel: cancel.clone(), ..PredictOptions::default() };
        model.predict(&image, &options).map(drop)
    })
}

fn crowded() -> Result<Work> {
    let (model, pixel) = (started(Algorithm::Stardist)?, field()?);
    let image = Image::from_gray(Array2::from_shape_fn((2000, 2000), |(y, x)| f32::from(pixel(y, x))));
    begun(move |cancel| {
        let thresholds =
            PredictOptions { prob_thresh: Some(0.01), nms_thresh: Some(0.99), ..PredictOptions::default() };
        model.predict(&image, &PredictOptions { cancel: cancel.clone(), ..thresholds }).map(drop)
    })
}

fn large(algorithm: Algorithm) -> Result<Work> {
    let (model, pixel) = (started(algorithm)?, field()?);
    begun(move |cancel| {
        let read = |region: Region, _: usize| {
            let value = |(y, x, _): (usize, usize, usize)| pixel(region.top + y, region.left + x);
            Ok(Image::U8(Array3::from_shape_fn((region.height, region.width, 1), value)))
        };
        let reader = CallbackRegions::new(vec![Extent { height: 6000, width: 6000 }], 1, None, read)?;
        let mut labels = PyramidSink::new(folder().join("a.ome.tif"), None);
        let mut outlines = GeoJsonSink::new(folder().join("a.geojson"), GeoJsonOptions::default());
        let mut sinks: [&mut dyn LargeSink; 2] = [&mut labels, &mut outlines];
        let mut options = LargeOptions::default();
        options.predict.cancel = cancel.clone();
        model.predict_large(&reader, &options, &mut sinks, &mut |_| ControlFlow::Continue).map(drop)
    })
}

/// As many candidates in one place, none of which is the other.
fn suppression(overlap: f32) -> Result<Work> {
    let count = 120_000;
    let heap = StarCandidates {
        points: (0..count).map(|k| [(k % 7) as i32, (k / 7 % 7) as i32]).collect(),
        prob: (0..count).map(|k| 1.0 - k as f32 / count as f32).collect(),
        dist: Array2::from_shape_fn((count, 16), |(k, ray)| 10.0 + ((k * 31 + ray * 17) % 23) as f32),
    };
    begun(move |cancel| non_maximum_suppression_until(&heap, overlap, cancel).map(drop))
}

fn painting() -> Result<Work> {
    let (count, rays) = (200_000, 32);
    let coord = Array3::from_shape_fn((count, 2, rays), |(k, axis, ray)| {
        let centre = (noise(k, axis) % 4000) as f32;
        let angle = std::f32::consts::TAU * ray as f32 / rays as f32;
        centre + 40.0 * if axis == 0 { angle.sin() } else { angle.cos() }
    });
    let prob: Vec<f32> = (0..count).map(|k| (noise(k, 7) % 1000) as f32 / 1000.0).collect();
    begun(move |cancel| coord_to_label_until(coord.view(), [4000, 4000], Some(&prob), cancel).map(drop))
}

fn flood(levels: f64) -> Result<Work> {
    let elevation =
        Array2::from_shape_fn((6000, 6000), |(y, x)| (f64::from(noise(y, x)) / 4_294_967_296.0 * levels) as f32);
    let markers = LabelImage::from_shape_fn((6000, 6000), |(y, x)| {
        if y % 300 == 150 && x % 300 == 150 { (y / 300 * 20 + x / 300 + 1) as i32 } else { 0 }
    });
    begun(move |cancel| watershed_until(elevation.view(), markers.view(), None, Connectivity::Four, cancel).map(drop))
}

fn masks() -> Result<Work> {
    // Every pixel flows to the middle of its square of 40.
    let flows = Array3::from_shape_fn((2, 4000, 4000), |(axis, y, x)| {
        let at = |place: usize| 19.5 - (place % 40) as f32;
        let [dy, dx] = [at(y), at(x)];
        [dy, dx][axis] / dy.hypot(dx).max(0.1)
    });
    let probability = Array2::from_elem((4000, 4000), 1.0);
    begun(move |cancel| {
        compute_masks_until(flows.view(), probability.view(), &MaskOptions::default(), cancel).map(drop)
    })
}

fn outlines() -> Result<Work> {
    let labels = LabelImage::from_shape_fn((4000, 4000), |(y, x)| {
        if noise(y, x).is_multiple_of(5) { 0 } else { (y / 8 * 500 + x / 8 + 1) as i32 }
    });
    begun(move |cancel| to_geojson_until(&labels, &GeoJsonOptions::default(), cancel).map(drop))
}
