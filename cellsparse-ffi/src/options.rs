//! Options as JSON objects, with the names and defaults of the command line and of the Python package.

use std::path::PathBuf;
use std::time::Duration;

use cellsparse_core::formats::geojson::{GeoJsonOptions, OutlineRule};
use cellsparse_core::large::{Area, LargeOptions};
use cellsparse_core::model::{Architecture, Device, Precision, Preset, Start};
use cellsparse_core::raster::regions::Level;
use cellsparse_core::{Algorithm, Budget, CancelToken, Error, PredictOptions, TrainOptions};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::status::{Failure, Outcome};

/// The network that `algorithm` and `config` describe.
pub(crate) fn architecture(algorithm: &str, config: Option<&str>) -> Outcome<Architecture> {
    let algorithm: Algorithm = algorithm.parse()?;
    let Some(config) = config else { return Ok(Architecture::of(algorithm, 1)) };
    let config: serde_json::Value = parse(Some(config), "config")?;
    serde_json::from_value(json!({ "algorithm": algorithm, "config": config }))
        .map_err(|error| refuse("config", &error))
}

/// How to train.
pub(crate) fn train(text: Option<&str>, cancel: CancelToken) -> Outcome<TrainOptions> {
    let given: Train = parse(text, "train options")?;
    let time_budget = given.time_budget.map(|seconds| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| Error::Config(format!("time_budget is {seconds}; give seconds, like 60")))
    });
    Ok(TrainOptions {
        steps: given.steps,
        batch_size: given.batch_size,
        patch_size: given.patch_size,
        learning_rate: given.learning_rate,
        preset: given.preset,
        time_budget: time_budget.transpose()?,
        start: given.init,
        seed: given.seed,
        round: false,
        keep_thresholds: false,
        resume: given.resume,
        normalized: given.normalized,
        pixel_size: given.pixel_size.map(PixelSize::sides),
        rescale: given.rescale,
        device: given.device.parse()?,
        precision: given.precision,
        threads: given.threads,
        memory: given.memory.map(Memory::budget).transpose()?,
        checkpoint: given.checkpoint,
        cancel,
    })
}

/// How to predict.
pub(crate) fn predict(text: Option<&str>, cancel: CancelToken) -> Outcome<PredictOptions> {
    parse::<Predict>(text, "predict options")?.options(cancel)
}

/// How to predict by parts.
pub(crate) struct Parts {
    pub options: LargeOptions,
    pub level: Level,
    /// Files to write.
    pub outputs: Vec<PathBuf>,
    /// How to outline in them.
    pub outlines: GeoJsonOptions,
}

/// How to predict by parts: what is told of a prediction, and where and how it is done.
pub(crate) fn parts(text: Option<&str>, cancel: CancelToken) -> Outcome<Parts> {
    const NAME: &str = "options";
    let given: serde_json::Map<String, serde_json::Value> = parse(text, NAME)?;
    let (own, predict) = given.into_iter().partition(|(name, _)| Large::FIELDS.contains(&name.as_str()));
    let own: Large = serde_json::from_value(serde_json::Value::Object(own)).map_err(|error| refuse(NAME, &error))?;
    let predict: Predict =
        serde_json::from_value(serde_json::Value::Object(predict)).map_err(|error| refuse(NAME, &error))?;
    let level = match own.level {
        LevelText::Number(level) => Level::Number(level),
        LevelText::Text(text) => {
            text.parse().map_err(|error| Error::Config(format!("level is \"{text}\"; {error}")))?
        }
    };
    let area = own.region.map(|text| match text.trim_start().starts_with(['{', '[']) {
        true => Area::from_geojson(&text),
        false => text.parse(),
    });
    let outlines = Outline { outline: own.outline, simplify: own.simplify }.options()?;
    let options = LargeOptions {
        predict: predict.options(cancel)?,
        area: area.transpose()?,
        skip_empty: own.skip_empty,
        folder: own.folder,
        resume: own.resume,
        image: own.image,
        ..LargeOptions::default()
    };
    Ok(Parts { options, level, outputs: own.outputs, outlines })
}

impl Predict {
    fn options(self, cancel: CancelToken) -> Outcome<PredictOptions> {
        let given = self;
        Ok(PredictOptions {
            prob_thresh: given.prob_thresh,
            nms_thresh: given.nms_thresh,
            flow_threshold: given.flow_threshold,
            cellprob_threshold: given.cellprob_threshold,
            diameter: given.diameter,
            augment: given.augment,
            postprocess: given.postprocess.as_deref().map(str::parse).transpose()?,
            min_area: given.min_area,
            tile: given.tile,
            normalized: given.normalized,
            pixel_size: given.pixel_size.map(PixelSize::sides),
            rescale: given.rescale,
            device: given.device.parse()?,
            precision: given.precision,
            threads: given.threads,
            memory: given.memory.map(Memory::budget).transpose()?,
            cancel,
        })
    }
}

/// Where a network for outlines by click runs.
#[cfg_attr(not(feature = "sam"), allow(dead_code))]
pub(crate) struct SamOptions {
    pub device: Device,
    pub threads: Option<usize>,
}

/// Where a network for outlines by click runs.
pub(crate) fn sam(text: Option<&str>) -> Outcome<SamOptions> {
    let given: SamLoad = parse(text, "options")?;
    Ok(SamOptions { device: given.device.unwrap_or_else(|| "auto".into()).parse()?, threads: given.threads })
}

/// Memory that a look at an image may take.
pub(crate) fn looking(text: Option<&str>) -> Outcome<Option<Budget>> {
    let given: Looking = parse(text, "options")?;
    Ok(given.memory.map(Memory::budget).transpose()?)
}

/// What is known of one object: points `[x, y, label]` and the edges of a box.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "sam"), allow(dead_code))]
pub(crate) struct AskedObject {
    #[serde(default)]
    pub points: Vec<[f64; 3]>,
    #[serde(default, rename = "box")]
    pub rectangle: Option<[f64; 4]>,
}

/// The objects that are asked for.
pub(crate) fn prompts(text: &str) -> Outcome<Vec<AskedObject>> {
    let asked: Vec<AskedObject> = serde_json::from_str(text).map_err(|error| {
        Error::Config(format!("prompts: {error}; expected a JSON array such as [{{\"points\": [[120.5, 80.5, 1]]}}]"))
    })?;
    let labels = asked.iter().flat_map(|one| &one.points).map(|point| point[2]);
    match labels.into_iter().find(|label| *label != 0.0 && *label != 1.0) {
        Some(label) => {
            Err(Error::Config(format!("the label of a point is {label}; 1 is in the object, 0 beside it")).into())
        }
        None => Ok(asked),
    }
}

/// How to outline: the rule, and the tolerance in pixels.
pub(crate) fn outline(text: Option<&str>) -> Outcome<GeoJsonOptions> {
    parse::<Outline>(text, "outline options")?.options()
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct SamLoad {
    device: Option<String>,
    threads: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Looking {
    memory: Option<Memory>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Train {
    steps: Option<usize>,
    batch_size: Option<usize>,
    patch_size: Option<usize>,
    learning_rate: Option<f32>,
    preset: Preset,
    time_budget: Option<f64>,
    init: Start,
    seed: u64,
    resume: bool,
    normalized: bool,
    pixel_size: Option<PixelSize>,
    rescale: bool,
    device: String,
    precision: Precision,
    threads: Option<usize>,
    memory: Option<Memory>,
    checkpoint: Option<PathBuf>,
}

impl Default for Train {
    fn default() -> Self {
        let options = TrainOptions::default();
        Self {
            steps: options.steps,
            batch_size: options.batch_size,
            patch_size: options.patch_size,
            learning_rate: options.learning_rate,
            preset: options.preset,
            time_budget: None,
            init: options.start,
            seed: options.seed,
            resume: options.resume,
            normalized: options.normalized,
            pixel_size: None,
            rescale: options.rescale,
            device: options.device.to_string(),
            precision: options.precision,
            threads: options.threads,
            memory: None,
            checkpoint: options.checkpoint,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Predict {
    prob_thresh: Option<f32>,
    nms_thresh: Option<f32>,
    flow_threshold: Option<f32>,
    cellprob_threshold: Option<f32>,
    diameter: Option<f32>,
    augment: bool,
    postprocess: Option<String>,
    min_area: f32,
    tile: Option<usize>,
    normalized: bool,
    pixel_size: Option<PixelSize>,
    rescale: bool,
    device: String,
    precision: Precision,
    threads: Option<usize>,
    memory: Option<Memory>,
}

impl Default for Predict {
    fn default() -> Self {
        let options = PredictOptions::default();
        Self {
            prob_thresh: None,
            nms_thresh: None,
            flow_threshold: None,
            cellprob_threshold: None,
            diameter: None,
            augment: options.augment,
            postprocess: None,
            min_area: options.min_area,
            tile: options.tile,
            normalized: options.normalized,
            pixel_size: None,
            rescale: options.rescale,
            device: options.device.to_string(),
            precision: options.precision,
            threads: options.threads,
            memory: None,
        }
    }
}

/// Micrometres: the side of square pixels, or height and width.
#[derive(Deserialize)]
#[serde(untagged)]
enum PixelSize {
    Side(f64),
    Sides([f64; 2]),
}

impl PixelSize {
    fn sides(self) -> [f64; 2] {
        match self {
            PixelSize::Side(side) => [side, side],
            PixelSize::Sides(sides) => sides,
        }
    }
}

/// Bytes, as a number or as a text such as "4G".
#[derive(Deserialize)]
#[serde(untagged)]
enum Memory {
    Bytes(u64),
    Text(String),
}

impl Memory {
    fn budget(self) -> cellsparse_core::Result<Budget> {
        match self {
            Memory::Bytes(bytes) => Budget::new(bytes),
            Memory::Text(text) => text.parse(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Outline {
    outline: String,
    simplify: Option<f64>,
}

impl Default for Outline {
    fn default() -> Self {
        Self { outline: OutlineRule::default().to_string(), simplify: None }
    }
}

impl Outline {
    fn options(self) -> Outcome<GeoJsonOptions> {
        Ok(GeoJsonOptions { outline: self.outline.parse()?, simplify: self.simplify, ..GeoJsonOptions::default() })
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct Large {
    level: LevelText,
    region: Option<String>,
    skip_empty: bool,
    folder: Option<PathBuf>,
    resume: bool,
    image: String,
    outputs: Vec<PathBuf>,
    outline: String,
    simplify: Option<f64>,
}

impl Large {
    const FIELDS: [&str; 9] =
        ["level", "region", "skip_empty", "folder", "resume", "image", "outputs", "outline", "simplify"];
}

impl Default for Large {
    fn default() -> Self {
        let (options, outlines) = (LargeOptions::default(), Outline::default());
        Self {
            level: LevelText::Number(options.level),
            region: None,
            skip_empty: options.skip_empty,
            folder: None,
            resume: options.resume,
            image: options.image,
            outputs: Vec::new(),
            outline: outlines.outline,
            simplify: outlines.simplify,
        }
    }
}

/// A level: its number, or a text such as "0.5um".
#[derive(Deserialize)]
#[serde(untagged)]
enum LevelText {
    Number(usize),
    Text(String),
}

fn parse<T: DeserializeOwned>(text: Option<&str>, name: &str) -> Outcome<T> {
    serde_json::from_str(text.unwrap_or("{}")).map_err(|error| refuse(name, &error))
}

fn refuse(name: &str, error: &serde_json::Error) -> Failure {
    Error::Config(format!("{name}: {error}; expected a JSON object such as {{\"steps\": 200}}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_options_are_the_defaults_of_the_library() {
        let (given, default) = (train(None, CancelToken::new()).unwrap(), TrainOptions::default());
        assert_eq!(format!("{given:?}"), format!("{default:?}"));
        let (given, default) = (predict(Some("{}"), CancelToken::new()).unwrap(), PredictOptions::default());
        assert_eq!(format!("{given:?}"), format!("{default:?}"));
        assert_eq!(outline(None).unwrap(), GeoJsonOptions::default());
        assert_eq!(architecture("cellpose", None).unwrap(), architecture("cellpose", Some("{}")).unwrap());
    }

    #[test]
    fn unknown_names_and_types_are_refused_and_named() {
        for text in ["{\"stesp\": 3}", "{\"steps\": -1}", "[", "{\"device\": \"tpu\"}", "{\"time_budget\": -1}"] {
            let failure = train(Some(text), CancelToken::new()).unwrap_err();
            assert_eq!(failure.status, crate::cellsparse_status::Config, "{text}: {}", failure.message);
        }
        let message = train(Some("{\"stesp\": 3}"), CancelToken::new()).unwrap_err().message;
        assert!(message.contains("stesp") && message.contains("steps"), "{message}");
        assert!(architecture("stardist", Some("{\"rays\": 3}")).unwrap_err().message.contains("n_rays"));
        assert!(architecture("unet", None).is_err());
        assert!(predict(Some("{\"postprocess\": \"magic\"}"), CancelToken::new()).is_err());
    }

    #[test]
    fn a_pixel_size_is_one_number_or_two() {
        for (text, sides) in [("{\"pixel_size\": 0.5}", [0.5, 0.5]), ("{\"pixel_size\": [0.5, 0.25]}", [0.5, 0.25])] {
            assert_eq!(train(Some(text), CancelToken::new()).unwrap().pixel_size, Some(sides));
            assert_eq!(predict(Some(text), CancelToken::new()).unwrap().pixel_size, Some(sides));
        }
        assert!(!predict(Some("{\"rescale\": false}"), CancelToken::new()).unwrap().rescale);
        assert!(predict(Some("{\"pixel_size\": \"0.5 um\"}"), CancelToken::new()).is_err());
    }

    #[test]
    fn parts_have_the_options_of_a_prediction_and_their_own() {
        let of = |text: &str| parts(Some(text), CancelToken::new());
        let Parts { options, level, outputs, outlines } = parts(None, CancelToken::new()).unwrap();
        assert_eq!(format!("{options:?}"), format!("{:?}", LargeOptions::default()));
        assert_eq!((level, outputs.len(), outlines), (Level::Number(0), 0, GeoJsonOptions::default()));
        let given =
            of("{\"level\": \"0.5um\", \"prob_thresh\": 0.25, \"outputs\": [\"a.csv\"], \"region\": \"1,2,3,4\"}");
        let given = given.unwrap();
        assert_eq!((given.level, given.options.predict.prob_thresh), (Level::PixelSize(0.5), Some(0.25)));
        assert!(given.outputs == [PathBuf::from("a.csv")] && given.options.area.is_some());
        for (text, said) in [
            ("{\"levle\": 1}", "levle"),
            ("{\"level\": \"half\"}", "half"),
            ("{\"region\": \"1,2\"}", "1,2"),
            ("{\"outputs\": \"a.csv\"}", "sequence"),
            ("{\"outline\": \"round\"}", "round"),
        ] {
            let failure = of(text).map(drop).unwrap_err();
            assert!(failure.message.contains(said), "{text}: {}", failure.message);
        }
    }

    #[test]
    fn prompts_are_points_and_boxes_by_name() {
        let asked = prompts(r#"[{"points": [[1, 2.5, 1]]}, {"points": [], "box": [1, 2, 3, 4]}]"#).ok().unwrap();
        assert_eq!((asked[0].points[0], asked[1].rectangle), ([1.0, 2.5, 1.0], Some([1.0, 2.0, 3.0, 4.0])));
        for (text, word) in [
            (r#"[{"point": [[1, 2, 1]]}]"#, "point"),
            (r#"[{"points": [[1, 2]]}]"#, "length 2"),
            (r#"[{"points": [[1, 2, -1]]}]"#, "the label of a point is -1"),
            ("{}", "sequence"),
        ] {
            let failure = prompts(text).err().unwrap();
            assert!(failure.message.contains(word), "{}", failure.message);
        }
        assert!(sam(Some(r#"{"device": "cpu", "threads": 2}"#)).is_ok() && sam(Some(r#"{"devices": 1}"#)).is_err());
        assert_eq!(looking(None).ok().unwrap(), None);
    }

    #[test]
    fn memory_is_a_number_or_a_text() {
        for (text, bytes) in [("{\"memory\": \"1.5G\"}", 3 << 29), ("{\"memory\": 1048576}", 1 << 20)] {
            assert_eq!(train(Some(text), CancelToken::new()).unwrap().memory.unwrap().bytes(), bytes);
            assert_eq!(predict(Some(text), CancelToken::new()).unwrap().memory.unwrap().bytes(), bytes);
        }
        for text in ["{\"memory\": 0}", "{\"memory\": \"much\"}", "{\"memory\": -1}"] {
            assert!(predict(Some(text), CancelToken::new()).is_err(), "{text}");
        }
    }
}
