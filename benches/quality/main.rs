//! Scores on held-out images after training from sparse labels, over several seeds.
//!
//! `cargo run --release -p cellsparse-core --example quality -- DATA [CASE] [KEY=VALUE ...]`
//!
//! The public protocols, each a word in place of CASE: `one-image` trains on one whole image of `dsb2018/train` with all its
//! cells (`images` of them, 20 unless said, drawn by `seed`), scores each on the test images, and prints median, tenth
//! percentile and least; `paper` is the experiment of the paper: `to_sparse` of all training images with each of `k`
//! (1,4,16,64,256), `modes` (min,max,minmax), `background` (with,without), `algorithms` and `inits` (starter,none), lists
//! separated by commas; it also writes a picture to `svg`.
//!
//! DATA is a folder with `train/images`, `train/sparse/CASE`, `test/images` and `test/masks`, or it holds `dsb2018` and
//! `dsb2018-mini`. Cases of the latter: `scribble` and `far` train on one image and are scored on its siblings, `k4` and `k16` train on all of `dsb2018/train` and are scored on `dsb2018/test`, `stained` (with strokes) and
//! `stained-k4` do the same on the stained images of `dsb2018-brightfield`. Keys: `algorithm`, `steps`,
//! `seconds`, `seeds`, `seed` (the first), `patch`, `batch`, `lr`, `threads`, `precision`, `preset`, `init` (`starter`, `none`, a model or a file of starting weights, `.bin`), `widths` (as 16-32-64), `filters` (StarDist), `images` (how many to train on, at most),
//! `augment` (`yes`: mirrored prediction), `postprocess` (ELEPHANT: several separated by commas score the same trainings), `out` (a folder for pictures of the
//! scored images with the found outlines in them), `verbose`, `reliability` (`yes`: how often objects of each probability are
//! right; a name that ends with `.svg` makes a picture of it too).

mod protocols;
mod reliability;

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cellsparse_core::annotations::{Dataset, LabelEncoding, SparseLabels, SparsifyMode, sparsify};
use cellsparse_core::formats::overlay;
use cellsparse_core::metrics::{Criterion, Matching, matching_dataset};
use cellsparse_core::model::{
    Algorithm, Architecture, Model, PredictOptions, Start, Starter, TrainOptions, TrainingSummary,
};
use cellsparse_core::raster::{
    LabelImage, RawLabels, list_images, pair_by_stem, read_image, read_label_file, write_rgb_png,
};
use cellsparse_core::targets::fill_label_holes;
use cellsparse_core::{ControlFlow, Image};

use self::reliability::Reliability;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Settings by name.
type Keys = HashMap<String, String>;

/// Images with sparse labels to train on, images with the truth to score on.
struct Case {
    train: Vec<(PathBuf, PathBuf)>,
    test: Vec<(PathBuf, PathBuf)>,
    /// How the labels to train on are written.
    encoding: LabelEncoding,
    /// What is done to them first.
    sparse: Option<(usize, SparsifyMode, bool)>,
}

impl Case {
    /// Sparse labels in the wire encoding.
    fn wire(train: Vec<(PathBuf, PathBuf)>, test: Vec<(PathBuf, PathBuf)>) -> Self {
        Self { train, test, encoding: LabelEncoding::Wire, sparse: None }
    }

    /// The labels of a file as they are trained on.
    fn labels(&self, file: &Path, image: &Image) -> Outcome<SparseLabels> {
        let labels = SparseLabels::parse(read_label_file(file)?, self.encoding)?;
        let Some((k, mode, background)) = self.sparse else { return Ok(labels) };
        Ok(SparseLabels::from_signed(sparsify(labels.labels(), image.to_f32().view(), k, mode, background)?)?)
    }
}

/// Head of the table that [`scored`] prints the rows of.
const HEADER: &str = "| algorithm | case | begun, kept | seed | steps | s | thresholds | tp / fp / fn | AP50 | AP75 | mean IoU \
                      | PQ |\n|---|---|---|---|---|---|---|---|---|---|---|---|";

/// The one image of the single-image cases.
const ONE: &str = "00071198";

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: quality DATA [scribble|far|k4|k16|stained|stained-k4|one-image|paper] [KEY=VALUE ...]";
    let data = PathBuf::from(arguments.next().ok_or(usage)?);
    let (mut cases, mut keys) = (Vec::new(), Keys::new());
    for argument in arguments {
        match argument.split_once('=') {
            Some((key, value)) => drop(keys.insert(key.to_string(), value.to_string())),
            None => cases.push(argument),
        }
    }
    match cases.first().map(String::as_str) {
        Some("one-image") => return protocols::one_image(&data, &keys),
        Some("paper") => return protocols::paper(&data, &keys),
        _ => {}
    }
    if cases.is_empty() {
        cases = vec!["scribble".into(), "far".into(), "k4".into()];
    }
    println!("{HEADER}");
    for name in cases {
        let case = case(&data, &name)?;
        let seeds: u64 = keys.get("seeds").map_or(Ok(3), |value| value.parse())?;
        // One list of scores for every way of post-processing.
        let mut scores: Vec<(String, Vec<[Matching; 2]>)> = Vec::new();
        let first: u64 = keys.get("seed").map_or(Ok(0), |value| value.parse())?;
        for seed in first..first + seeds {
            let trained = trained(&case, &name, seed, &keys)?;
            for (index, (words, score)) in scored(&case, &name, seed, &trained, &keys)?.into_iter().enumerate() {
                match scores.get_mut(index) {
                    Some((_, list)) => list.push(score),
                    None => scores.push((words, vec![score])),
                }
            }
        }
        for (words, scores) in scores {
            let mean = |at: usize, f: fn(&Matching) -> f64| {
                scores.iter().map(|pair| f(&pair[at])).sum::<f64>() / scores.len() as f64
            };
            println!(
                "| | **{name}**{words} | | mean | | | | | **{:.3}** | {:.3} | {:.3} | {:.3} |",
                mean(0, |m| m.accuracy),
                mean(1, |m| m.accuracy),
                mean(0, |m| m.mean_matched_score),
                mean(0, |m| m.panoptic_quality)
            );
        }
    }
    Ok(())
}

/// The files of two folders that belong together.
fn pairs(images: PathBuf, labels: PathBuf) -> Outcome<Vec<(PathBuf, PathBuf)>> {
    Ok(pair_by_stem(&list_images(images)?, &list_images(labels)?)?)
}

/// The images of a split of `dsb2018` with complete labels.
fn complete(data: &Path, split: &str) -> Outcome<Vec<(PathBuf, PathBuf)>> {
    let folder = data.join("dsb2018").join(split);
    pairs(folder.join("images"), folder.join("masks"))
}

fn case(data: &Path, name: &str) -> Outcome<Case> {
    let all = |split: &str| complete(data, split);
    if data.join("train/images").is_dir() {
        let train = pairs(data.join("train/images"), data.join("train/sparse").join(name))?;
        return Ok(Case::wire(train, pairs(data.join("test/images"), data.join("test/masks"))?));
    }
    if let Some(labels) = name.strip_prefix("stained") {
        let labels = labels.strip_prefix('-').unwrap_or("scribble");
        let folder = data.join("dsb2018-brightfield/stained");
        let train = pairs(folder.join("train/images"), folder.join("train/sparse").join(labels))?;
        return Ok(Case::wire(train, pairs(folder.join("test/images"), folder.join("test/masks"))?));
    }
    if name == "k4" || name == "k16" {
        let folder = data.join("dsb2018/train");
        let train = pairs(folder.join("images"), folder.join("sparse").join(name))?;
        return Ok(Case::wire(train, all("test")?));
    }
    let folder = data.join("dsb2018-mini/train");
    let mut train = pairs(folder.join("images"), folder.join("sparse").join(name))?;
    train.retain(|(image, _)| stem(image).starts_with(ONE));
    let siblings = std::fs::read_to_string(data.join(format!("dsb2018/siblings_{ONE}.txt")))?;
    let mut test = all("train")?;
    test.extend(all("test")?);
    let wanted: Vec<&str> = siblings.split_whitespace().map(|name| name.trim_end_matches(".png")).collect();
    test.retain(|(image, _)| wanted.iter().any(|name| name.ends_with(&stem(image))));
    Ok(Case::wire(train, test))
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A model after its training, and what the training took.
fn trained(case: &Case, name: &str, seed: u64, keys: &Keys) -> Outcome<(Model, TrainingSummary)> {
    let mut images: Vec<Image> = Vec::new();
    let mut labels = Vec::new();
    let most = keys.get("images").map_or(Ok(usize::MAX), |value| value.parse())?;
    for (image, sparse) in case.train.iter().take(most) {
        images.push(read_image(image)?);
        labels.push(case.labels(sparse, &images[images.len() - 1])?);
    }
    let channels = images.first().map_or(1, Image::channels);
    let mut options = TrainOptions { seed, ..TrainOptions::default() };
    let mut model = Model::new(architecture(keys, channels)?, seed)?;
    match keys.get("init").map(String::as_str) {
        None | Some("starter") => {}
        Some("none") => options.start = Start::None,
        Some(file) if file.ends_with(".bin") => model.begin_with(&Starter::read(&std::fs::read(file)?)?)??,
        Some(file) => model = Model::load(file)?,
    }
    let dataset = Dataset::new(images, labels)?;
    let number = |key: &str| keys.get(key).map(|value| value.parse::<f64>()).transpose();
    options.steps = number("steps")?.map(|steps| steps as usize);
    options.time_budget = number("seconds")?.map(Duration::from_secs_f64);
    options.learning_rate = number("lr")?.map(|rate| rate as f32);
    options.patch_size = number("patch")?.map(|patch| patch as usize);
    options.batch_size = number("batch")?.map(|batch| batch as usize);
    options.threads = number("threads")?.map(|threads| threads as usize);
    if let Some(precision) = keys.get("precision") {
        options.precision = precision.parse()?;
    }
    if let Some(preset) = keys.get("preset") {
        options.preset = preset.parse()?;
    }
    let verbose = keys.contains_key("verbose");
    let summary = model.train(&dataset, None, &options, &mut |event| {
        if verbose && event.step % 20 == 0 {
            eprintln!("{name} {seed} step {} loss {:.4} {:?}", event.step, event.loss, event.losses);
        }
        ControlFlow::Continue
    })?;
    Ok((model, summary))
}

fn architecture(keys: &Keys, channels: usize) -> Outcome<Architecture> {
    let algorithm: Algorithm = keys.get("algorithm").map_or(Ok(Algorithm::Stardist), |name| name.parse())?;
    let mut architecture = Architecture::of(algorithm, channels);
    if let (Some(filters), Architecture::Stardist(config)) = (keys.get("filters"), &mut architecture) {
        config.n_filter_base = filters.parse()?;
    }
    if let Some(widths) = keys.get("widths") {
        let widths = widths.split('-').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        match &mut architecture {
            Architecture::Cellpose(config) => config.widths = widths,
            Architecture::Elephant(config) => config.widths = widths,
            _ => return Err("StarDist has no widths".into()),
        }
    }
    Ok(architecture)
}

/// The scores of a trained model, one for every way of post-processing, with a few words on the way.
fn scored(
    case: &Case,
    name: &str,
    seed: u64,
    (model, summary): &(Model, TrainingSummary),
    keys: &Keys,
) -> Outcome<Vec<(String, [Matching; 2])>> {
    let ways: Vec<Option<&str>> = match keys.get("postprocess") {
        Some(names) => names.split(',').map(Some).collect(),
        None => vec![None],
    };
    let mut scores = Vec::new();
    for way in ways {
        let postprocess = way.map(str::parse).transpose()?;
        let words = way.map(|way| format!(" {way}")).unwrap_or_default();
        let augment = keys.get("augment").is_some_and(|word| word == "yes");
        let predict = PredictOptions { postprocess, augment, ..PredictOptions::default() };
        let mut pairs = Vec::new();
        let mut reliability = Reliability::default();
        for (path, truth) in &case.test {
            let truth = match read_label_file(truth)? {
                RawLabels::Unsigned(values) => values.mapv(|value| value as i32),
                RawLabels::Signed(values) => values,
                other => return Err(format!("labels of an unknown kind: {other:?}").into()),
            };
            let image = read_image(path)?;
            let segmentation = model.predict(&image, &predict)?;
            if let Some(folder) = keys.get("out") {
                std::fs::create_dir_all(folder)?;
                let file = format!("{name}-{seed}{}-{}.png", words.replace(' ', "-"), stem(path));
                let picture = overlay(&image, &segmentation.labels, None)?;
                write_rgb_png(Path::new(folder).join(file), picture.view())?;
            }
            let truth = fill_label_holes(truth.view())?;
            reliability.add(&truth, &segmentation)?;
            pairs.push((truth, segmentation.labels));
        }
        let pairs: Vec<(&LabelImage, &LabelImage)> = pairs.iter().map(|(a, b)| (a, b)).collect();
        let [score, strict] = <[Matching; 2]>::try_from(matching_dataset(&pairs, &[0.5, 0.75], Criterion::Iou, false)?)
            .map_err(|_| "two thresholds have two scores")?;
        println!(
            "| {} | {name}{words} | {}, {} | {seed} | {} | {:.0} | {} | {} / {} / {} | {:.3} | {:.3} | {:.3} | {:.3} |",
            model.algorithm(),
            summary.begun,
            summary.kept,
            summary.steps,
            summary.seconds,
            thresholds(model)?,
            score.tp,
            score.fp,
            score.fn_,
            score.accuracy,
            strict.accuracy,
            score.mean_matched_score,
            score.panoptic_quality
        );
        summary.notes.iter().for_each(|note| println!("{name} {seed}: {note}"));
        if let Some(to) = keys.get("reliability") {
            reliability.print();
            if to.ends_with(".svg") {
                std::fs::write(to, reliability.picture())?;
            }
        }
        scores.push((words, [score, strict]));
    }
    Ok(scores)
}

/// The thresholds of a model in a few words.
fn thresholds(model: &Model) -> Outcome<String> {
    let value = serde_json::to_value(model.info().thresholds)?;
    let fields = value.as_object().and_then(|outer| outer.values().next()).and_then(|inner| inner.as_object());
    let words =
        fields.into_iter().flatten().map(|(name, value)| format!("{name} {:.2}", value.as_f64().unwrap_or(0.0)));
    Ok(words.collect::<Vec<_>>().join(", "))
}
