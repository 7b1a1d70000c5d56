//! Segmentation by parts against that of the whole image.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use ndarray::{Array3, s};

use super::blocks::BLOCK;
use super::*;
use crate::annotations::{Dataset, SparseLabels};
use crate::error::Error;
use crate::formats::features::csv_string;
use crate::formats::geojson::{GeoJsonOptions, OutlineRule};
use crate::geometry::measure::MeasureOptions;
use crate::metrics::{Criterion, matching};
use crate::model::{Algorithm, Architecture, Normalization, Preset, Segmentation, TrainOptions};
use crate::networks::StarDistConfig;
use crate::random::Random;
use crate::raster::regions::{Extent, ImageRegions, Region};
use crate::raster::{Image, LabelImage, RawLabels, read_label_file, resize_bilinear};
use crate::synthetic::{AnnotationOptions, Field, FieldOptions, annotate, draw_field};

pub(super) fn field(height: usize, width: usize, seed: u64) -> Field {
    draw_field(&FieldOptions { height, width, ..FieldOptions::default() }, seed).unwrap()
}

/// A model of each algorithm that finds the nuclei of drawn fields, taught once.
pub(super) fn model(algorithm: Algorithm) -> Model {
    static MODELS: OnceLock<Mutex<BTreeMap<&'static str, Model>>> = OnceLock::new();
    let mut models = MODELS.get_or_init(Mutex::default).lock().unwrap();
    models.entry(algorithm.name()).or_insert_with(|| taught(algorithm, Preset::default())).clone()
}

fn taught(algorithm: Algorithm, preset: Preset) -> Model {
    let field = field(128, 160, 1);
    let labels = SparseLabels::from_signed(annotate(&field, &AnnotationOptions::default(), 1)).unwrap();
    let data = Dataset::new(vec![field.image], vec![labels]).unwrap();
    let mut model = Model::new(Architecture::of(algorithm, 1), 0).unwrap();
    let options =
        TrainOptions { preset, steps: Some(4), batch_size: Some(1), patch_size: Some(96), ..TrainOptions::default() };
    model.train(&data, None, &options, &mut |_| Flow::Continue).unwrap();
    model
}

/// What blocks of that side give.
fn by_parts(model: &Model, image: &Image, options: &LargeOptions, side: usize) -> (Segmentation, LargeSummary) {
    let reader = ImageRegions::new(image.clone(), None).unwrap();
    let mut memory = MemorySink::default();
    let run = |sink: &mut MemorySink| {
        let threads = options.predict.threads;
        model.in_pool(threads, || run::run(None, model, &reader, options, side, &mut [sink], &mut |_| Flow::Continue))
    };
    let summary = run(&mut memory).unwrap();
    let found = memory.into_segmentation();
    assert_eq!(summary.objects, found.objects.len());
    (found, summary)
}

fn probabilities(found: &Segmentation) -> Vec<(i32, f32, Option<usize>)> {
    found.objects.iter().map(|object| (object.id, object.probability, object.class)).collect()
}

#[test]
fn stars_are_those_of_the_whole_image_whatever_the_blocks_and_tiles() {
    let model = model(Algorithm::Stardist);
    let image = field(430, 610, 5).image;
    let mut random = Random::new(1, 0);
    for tile in [None, Some(376)] {
        let mut options = LargeOptions { skip_empty: false, ..LargeOptions::default() };
        options.predict.tile = tile;
        let whole = model.predict(&image, &options.predict).unwrap();
        assert!(whole.objects.len() > 40, "{}", whole.objects.len());
        for threads in [1, 2] {
            options.predict.threads = Some(threads);
            let side = 20 + random.below(400);
            let (found, _) = by_parts(&model, &image, &options, side);
            assert_eq!(found.labels, whole.labels, "tile {tile:?}, blocks of {side}");
            assert_eq!(probabilities(&found), probabilities(&whole));
        }
    }
}

#[test]
fn stars_of_classes_and_of_images_that_are_seen_scaled_are_those_of_the_whole_image() {
    // Untrained networks find whatever their weights say; equal it must be.
    let config = StarDistConfig { n_filter_base: 4, n_depth: 1, n_rays: 8, n_classes: Some(3), ..Default::default() };
    let mut model = Model::stardist(config, 3).unwrap();
    model.set_pixel_size(Some([0.5, 0.5])).unwrap();
    let image = field(150, 190, 2).image;
    for micrometres in [0.5, 0.31, 0.8] {
        let mut options = LargeOptions { skip_empty: false, ..LargeOptions::default() };
        options.predict.pixel_size = Some([micrometres, micrometres]);
        options.predict.prob_thresh = Some(0.4);
        let whole = model.predict(&image, &options.predict).unwrap();
        for side in [37, 90] {
            let (found, summary) = by_parts(&model, &image, &options, side);
            assert_eq!(found.labels, whole.labels, "{micrometres}, blocks of {side}");
            assert_eq!(probabilities(&found), probabilities(&whole));
            assert_eq!(summary.pixel_size, Some([micrometres, micrometres]));
        }
    }
}

/// An image of which something is to be said before it was read, and something after.
struct Odd(ImageRegions);

impl RegionReader for Odd {
    fn levels(&self) -> &[Extent] {
        self.0.levels()
    }

    fn channels(&self) -> usize {
        self.0.channels()
    }

    fn notes(&self) -> &[String] {
        self.0.notes()
    }

    fn findings(&self) -> Vec<String> {
        vec!["rounded".into()]
    }

    fn read(&self, region: Region, level: usize) -> Result<Image> {
        self.0.read(region, level)
    }
}

#[test]
fn what_reading_shows_is_told_before_what_was_found() {
    let reader = ImageRegions::new(field(90, 110, 3).image, None).unwrap().with_notes(vec!["turned around".into()]);
    let model = model(Algorithm::Stardist);
    let told = model.predict_large(&Odd(reader), &LargeOptions::default(), &mut [], &mut |_| Flow::Continue).unwrap();
    assert_eq!(told.notes[..2], ["turned around", "rounded"]);
}

/// Every object is there, and of their pixels at most two in a thousand differ.
pub(super) fn assert_alike(found: &Segmentation, whole: &Segmentation, what: &str) {
    let score = matching(&whole.labels, &found.labels, 0.9, Criterion::Iou, false).unwrap();
    assert_eq!(
        (score.fp, score.fn_),
        (0, 0),
        "{what}: {} objects, {} in the whole",
        found.objects.len(),
        whole.objects.len()
    );
    let pairs = found.labels.iter().zip(&whole.labels);
    let differ = pairs.filter(|(a, b)| (**a > 0) != (**b > 0) || **a != **b).count();
    let inside = whole.labels.iter().filter(|label| **label > 0).count();
    assert!(differ * 500 <= inside, "{what}: {differ} of {inside} pixels differ");
}

#[test]
fn cells_are_those_of_the_whole_image_but_for_rounding() {
    let image = field(300, 380, 7).image;
    for (algorithm, tile) in
        [(Algorithm::Cellpose, None), (Algorithm::Elephant, Some(256)), (Algorithm::Elephant, None)]
    {
        let model = model(algorithm);
        let mut options = LargeOptions { skip_empty: false, ..LargeOptions::default() };
        options.predict.tile = tile;
        let whole = model.predict(&image, &options.predict).unwrap();
        assert!(whole.objects.len() > 20, "{algorithm}: {}", whole.objects.len());
        let mut first = None;
        for side in [101, 170, BLOCK] {
            let (found, _) = by_parts(&model, &image, &options, side);
            assert_alike(&found, &whole, &format!("{algorithm} {tile:?}, blocks of {side}"));
            if side == BLOCK {
                assert_eq!(found.labels, whole.labels, "{algorithm}: one block is the whole");
            }
            first.get_or_insert(found);
        }
        // Nothing follows the seams: rims of objects lie on them as rarely as on other lines.
        let labels = first.unwrap().labels;
        let changes = |column: usize| {
            let (a, b) = (labels.column(column - 1), labels.column(column));
            a.iter().zip(b).filter(|(a, b)| a != b).count()
        };
        let usual = (1..labels.ncols()).map(changes).max().unwrap_or(0);
        let (typical, seam) = ((1..labels.ncols()).map(changes).sum::<usize>() / labels.ncols(), changes(101));
        assert!(
            seam <= usual && seam < 3 * typical.max(5),
            "{algorithm}: {seam} changes on a seam, {typical} elsewhere"
        );
    }
}

#[test]
fn an_image_of_larger_cells_is_seen_at_their_size_by_parts_as_well() {
    let model = model(Algorithm::Cellpose);
    let image = Image::F32(resize_bilinear(field(150, 190, 5).image.to_f32().view(), 450, 570).unwrap());
    let options = LargeOptions { skip_empty: false, ..LargeOptions::default() };
    let whole = model.predict(&image, &options.predict).unwrap();
    let fitted =
        |notes: &[String]| notes.iter().find(|note| note.contains("as large as those of the training")).cloned();
    assert!(fitted(&whole.notes).is_some() && whole.objects.len() > 4, "{:?}", whole.notes);
    let (found, summary) = by_parts(&model, &image, &options, 201);
    assert_alike(&found, &whole, "larger cells");
    assert_eq!(fitted(&summary.notes), fitted(&whole.notes));
}

#[test]
fn networks_that_see_an_image_as_it_is_find_the_same_by_parts() {
    let image = field(300, 380, 7).image;
    let options = LargeOptions { skip_empty: false, ..LargeOptions::default() };
    let mut cellpose = (model(Algorithm::Cellpose), options.clone());
    let Architecture::Cellpose(config) = cellpose.0.architecture().clone() else { panic!("not Cellpose") };
    cellpose.1.predict.diameter = Some(config.diam_mean);
    // The reference does not scale images to the size of the cells.
    let elephant = (taught(Algorithm::Elephant, Preset::Reference), options);
    for (model, options) in [cellpose, elephant] {
        let whole = model.predict(&image, &options.predict).unwrap();
        assert!(!whole.objects.is_empty(), "{}", model.algorithm());
        assert_alike(&by_parts(&model, &image, &options, 101).0, &whole, model.algorithm().name());
    }
}

#[test]
fn a_run_that_was_ended_goes_on_with_the_same_result() {
    let image = field(300, 420, 9).image;
    let reader = ImageRegions::new(image.clone(), None).unwrap();
    for algorithm in [Algorithm::Stardist, Algorithm::Cellpose] {
        let model = model(algorithm);
        let folder = tempfile::tempdir().unwrap();
        let mut options = LargeOptions { folder: Some(folder.path().join("parts")), ..LargeOptions::default() };
        options.predict.tile = (algorithm == Algorithm::Stardist).then_some(376);
        let (whole, _) = by_parts(&model, &image, &LargeOptions { folder: None, ..options.clone() }, 128);
        let run = |options: &LargeOptions, stop_after: usize| {
            let (mut events, mut memory) = (Vec::new(), MemorySink::default());
            let mut observer = |event: &LargeProgress| {
                events.push((event.phase, event.done, event.total));
                if events.len() >= stop_after { Flow::Stop } else { Flow::Continue }
            };
            let summary = model
                .in_pool(None, || run::run(None, &model, &reader, options, 128, &mut [&mut memory], &mut observer));
            (summary, events, memory.into_segmentation())
        };
        let (ended, _, _) = run(&options, 2);
        assert!(matches!(ended, Err(Error::Cancelled)));
        options.resume = true;
        let (summary, events, found) = run(&options, usize::MAX);
        assert!(!summary.unwrap().was_finished);
        if algorithm == Algorithm::Cellpose {
            assert_eq!(events[0], (Phase::Network, 3, 12), "the first two parts are not done again");
        }
        assert_eq!((found.labels, found.objects), (whole.labels.clone(), whole.objects.clone()), "{algorithm}");
        let (summary, events, _) = run(&options, usize::MAX);
        assert!(summary.unwrap().was_finished && events.is_empty());
        options.predict.min_area = 30.0;
        let (refused, _, _) = run(&options, usize::MAX);
        assert!(refused.unwrap_err().to_string().contains("another options"));
    }
}

#[test]
fn blocks_that_are_segmented_elsewhere_are_put_together() {
    // Four blocks, of which each is looked at with its own reader of the pixels that it needs.
    let image = field(270, 290, 13).image;
    let reader = ImageRegions::new(image.clone(), None).unwrap();
    for algorithm in [Algorithm::Stardist, Algorithm::Cellpose, Algorithm::Elephant] {
        let model = model(algorithm);
        let folder = tempfile::tempdir().unwrap();
        let mut options = LargeOptions { folder: Some(folder.path().to_path_buf()), ..LargeOptions::default() };
        let plan = model.in_pool(None, || parts::plan(&model, &reader, &options, 150)).unwrap();
        assert_eq!(plan.groups.iter().flat_map(|group| group.blocks.clone()).collect::<Vec<_>>(), [0, 1, 2, 3]);
        for block in [3, 1, 0, 2] {
            let bytes = model
                .in_pool(None, || parts::packed_blocks(&model, &reader, &options, &plan.context, &[block], 150))
                .unwrap();
            keep_block(folder.path(), block, &bytes[0]).unwrap();
        }
        assert!(keep_block(folder.path(), 0, &[1]).is_err());
        options.resume = true;
        let rest = model.in_pool(None, || parts::plan(&model, &reader, &options, 150)).unwrap();
        assert!(rest.groups.is_empty());
        let (found, _) = by_parts(&model, &image, &options, 150);
        let whole = model.predict(&image, &options.predict).unwrap();
        assert!(whole.objects.len() > 20);
        assert_alike(&found, &whole, algorithm.name());
    }
}

#[test]
fn files_that_grow_hold_what_whole_ones_do() {
    let model = model(Algorithm::Stardist);
    let image = field(260, 330, 11).image;
    let reader = ImageRegions::new(image.clone(), Some([0.5, 0.5])).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut options = LargeOptions::default();
    options.predict.pixel_size = Some([0.5, 0.5]);
    let whole = model.predict(&image, &options.predict).unwrap();
    let exact = GeoJsonOptions { never_empty: true, ..GeoJsonOptions::default() };
    let literal = GeoJsonOptions { outline: OutlineRule::Literal, simplify: Some(0.7), ..exact.clone() };
    let mut sinks = (
        PyramidSink::new(path("a.ome.tif"), Some("a".into())),
        GeoJsonSink::new(path("a.geojson"), exact.clone()),
        GeoJsonSink::new(path("b.geojson"), literal.clone()),
        CsvSink::new(path("a.csv"), &reader, 0),
    );
    let mut list: [&mut dyn LargeSink; 4] = [&mut sinks.0, &mut sinks.1, &mut sinks.2, &mut sinks.3];
    model.predict_large(&reader, &options, &mut list, &mut |_| Flow::Continue).unwrap();
    let RawLabels::Unsigned(labels) = read_label_file(path("a.ome.tif")).unwrap() else { panic!("unsigned") };
    assert_eq!(labels.mapv(|label| label as i32), whole.labels);
    let text = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    let features =
        |options: &GeoJsonOptions| crate::formats::geojson::geojson_string(&whole.geojson(options).unwrap()).unwrap();
    assert_eq!(text("a.geojson"), features(&exact), "one block, one order");
    assert_eq!(text("b.geojson"), features(&literal));
    let table = whole.table(&MeasureOptions { image: Some(&image), pixel_size: Some([0.5, 0.5]) }).unwrap();
    let rows = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
    };
    let (found, expected) = (rows(&text("a.csv")), rows(&csv_string(&table)));
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs().max(1.0);
        assert!(a == b || near(a.parse().unwrap(), b.parse().unwrap()), "{a} instead of {b}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
}

#[test]
fn objects_are_found_where_they_are_wanted_and_empty_parts_are_left_out() {
    let model = model(Algorithm::Stardist);
    // Nuclei on the left, noise on the right.
    let drawn = field(300, 300, 4).image.to_f32();
    let mut random = Random::new(8, 0);
    let mut pixels = Array3::from_shape_fn((300, 1500, 1), |_| 20.0 + random.normal() as f32);
    pixels.slice_mut(s![.., ..300, ..]).assign(&drawn);
    let image = Image::F32(pixels);
    let mut options = LargeOptions::default();
    options.predict.tile = Some(376);
    let (all, summary) = by_parts(&model, &image, &options, 200);
    assert!(summary.notes.iter().any(|note| note.contains("left out")), "{:?}", summary.notes);
    assert!(all.objects.len() > 10);
    options.area = Some("100,50,120,90".parse().unwrap());
    let (some, _) = by_parts(&model, &image, &options, 200);
    let middle = |labels: &LabelImage, id: i32| {
        let pixels: Vec<_> = labels.indexed_iter().filter(|(_, label)| **label == id).map(|(at, _)| at).collect();
        let n = pixels.len() as f64;
        [
            pixels.iter().map(|at| at.0 as f64 + 0.5).sum::<f64>() / n,
            pixels.iter().map(|at| at.1 as f64 + 0.5).sum::<f64>() / n,
        ]
    };
    let inside = |[y, x]: [f64; 2]| (50.0..140.0).contains(&y) && (100.0..220.0).contains(&x);
    let wanted: Vec<i32> = all.objects.iter().map(|one| one.id).filter(|id| inside(middle(&all.labels, *id))).collect();
    assert!(!wanted.is_empty() && wanted.len() < all.objects.len());
    assert_eq!(some.objects.len(), wanted.len());
    for (id, own) in wanted.iter().zip(1..) {
        for (a, b) in all.labels.iter().zip(&some.labels) {
            assert_eq!(a == id, *b == own, "object {id}");
        }
    }
}

/// An image with smaller copies, that counts the pixels of the largest level that are read right of a column.
struct Pyramid {
    levels: Vec<ImageRegions>,
    extents: Vec<Extent>,
    beyond: usize,
    read: AtomicUsize,
}

impl Pyramid {
    fn new(pixels: &Array3<f32>, copies: usize, smaller: Smaller, beyond: usize) -> Self {
        let mut levels = vec![pixels.clone()];
        for at in 0..copies {
            levels.push(smaller(&levels[at]));
        }
        let levels: Vec<_> =
            levels.into_iter().map(|pixels| ImageRegions::new(Image::F32(pixels), None).unwrap()).collect();
        let extents = levels.iter().map(|level| level.levels()[0]).collect();
        Self { levels, extents, beyond, read: AtomicUsize::new(0) }
    }
}

impl RegionReader for Pyramid {
    fn levels(&self) -> &[Extent] {
        &self.extents
    }

    fn channels(&self) -> usize {
        self.levels[0].channels()
    }

    fn read(&self, region: Region, level: usize) -> Result<Image> {
        if level == 0 {
            let columns = region.right().saturating_sub(region.left.max(self.beyond));
            self.read.fetch_add(region.height * columns, Ordering::Relaxed);
        }
        self.levels[level].read(region, 0)
    }
}

/// How a smaller copy is made.
type Smaller = fn(&Array3<f32>) -> Array3<f32>;

fn averaged(pixels: &Array3<f32>) -> Array3<f32> {
    let (height, width, channels) = pixels.dim();
    Array3::from_shape_fn((height / 2, width / 2, channels), |(y, x, c)| {
        let four = pixels.slice(s![2 * y..2 * y + 2, 2 * x..2 * x + 2, c]);
        four.mean().unwrap_or(0.0)
    })
}

fn thinned_out(pixels: &Array3<f32>) -> Array3<f32> {
    pixels.slice(s![..;2, ..;2, ..]).to_owned()
}

#[test]
fn what_a_smaller_copy_shows_to_be_empty_is_not_read() {
    // Nuclei on the left, noise on the right; light on a dark ground, and dark on a white one.
    let drawn = field(300, 300, 4).image.to_f32();
    let mut random = Random::new(8, 0);
    let mut pixels = Array3::from_shape_fn((300, 2000, 1), |_| 20.0 + random.normal() as f32);
    pixels.slice_mut(s![.., ..300, ..]).assign(&drawn);
    for &algorithm in Algorithm::ALL {
        for bright in [false, true] {
            let model = model(algorithm);
            let pixels = if bright { pixels.mapv(|value| 255.0 - value) } else { pixels.clone() };
            let mut options = LargeOptions::default();
            // Percentiles, for which all pixels are read, are not measured.
            options.predict.normalized = true;
            options.predict.tile = (algorithm != Algorithm::Cellpose).then_some(256);
            let pixels = Normalization::default().apply(&Image::F32(pixels)).unwrap();
            let run = |copies: usize, smaller: Smaller| {
                let reader = Pyramid::new(&pixels, copies, smaller, 900);
                let mut memory = MemorySink::default();
                let run =
                    || run::run(None, &model, &reader, &options, 200, &mut [&mut memory], &mut |_| Flow::Continue);
                let summary = model.in_pool(None, run).unwrap();
                (memory.into_segmentation(), summary.notes, reader.read.into_inner())
            };
            let (whole, notes, all) = run(0, averaged);
            let what = format!("{algorithm}, bright: {bright}");
            assert!(notes.iter().any(|note| note.contains("left out")), "{what}: {notes:?}");
            assert!(bright || whole.objects.len() > 10, "{what}: {}", whole.objects.len());
            let copies: [(usize, Smaller); 2] =
                if bright { [(1, averaged), (3, averaged)] } else { [(2, averaged), (2, thinned_out)] };
            for (copies, smaller) in copies {
                let (found, same_notes, read) = run(copies, smaller);
                assert_eq!((&found.labels, &same_notes), (&whole.labels, &notes), "{what}");
                // Every pixel at least once less. Cellpose reads squares for comparison there and nothing else; the others measure
                // the size of cells, and statistics, on the whole image.
                let right = 300 * 1100;
                assert!(read + right <= all, "{what}: {read} pixels instead of {all}");
                assert!(algorithm != Algorithm::Cellpose || read * 4 < right, "{what}: {read} of {right} pixels");
            }
        }
    }
}

#[test]
fn flat_images_and_wrong_options_are_told() {
    let model = model(Algorithm::Stardist);
    let flat = Image::U8(Array3::from_elem((90, 80, 1), 7));
    let (found, summary) = by_parts(&model, &flat, &LargeOptions::default(), BLOCK);
    assert!(found.objects.is_empty() && summary.notes[0].contains("the same"), "{:?}", summary.notes);
    let reader = ImageRegions::new(flat, None).unwrap();
    let run = |options: &LargeOptions| model.predict_large(&reader, options, &mut [], &mut |_| Flow::Continue);
    assert!(matches!(run(&LargeOptions { level: 1, ..LargeOptions::default() }), Err(Error::Config(_))));
    let mut options = LargeOptions::default();
    options.predict.diameter = Some(3.0);
    assert!(run(&options).is_err());
    options = LargeOptions::default();
    options.predict.cancel.cancel();
    assert!(matches!(run(&options), Err(Error::Cancelled)));
    let colours = ImageRegions::new(Image::U8(Array3::zeros((9, 9, 3))), None).unwrap();
    let wrong = model.predict_large(&colours, &LargeOptions::default(), &mut [], &mut |_| Flow::Continue);
    assert!(wrong.unwrap_err().to_string().contains("3 channels"));
}
