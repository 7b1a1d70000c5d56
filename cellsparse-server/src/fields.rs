//! What the bodies of the requests mean.

use std::borrow::Cow;

use cellsparse_core::annotations::LabelEncoding;
use cellsparse_core::model::{Algorithm, AlgorithmOptions, PredictOptions, Start, Thresholds};

use super::errors::{Context, FieldError, Location, Refusal};
use super::json::Json;
use super::limits::Limits;
use super::names::ModelName;
use super::values::Reader;

/// The body of `POST /{algorithm}/`.
#[derive(Debug)]
pub struct Segment<'a> {
    /// Which model.
    pub model: ModelName,
    /// The images with their labels; at least one.
    pub samples: Vec<Sample<'a>>,
    /// Whether the images came as a list, which is answered by a list for each image.
    pub several: bool,
    /// Train on the labelled images.
    pub train: bool,
    /// Segment the images.
    pub eval: bool,
    /// Optimiser steps.
    pub steps: usize,
    /// Side of the training patches.
    pub patch_size: usize,
    /// Patches in a batch.
    pub batch_size: usize,
    /// Learning rate, when one was sent.
    pub learning_rate: Option<f32>,
    /// Tolerance of the outlines in pixels.
    pub simplify: Option<f64>,
    /// Channels of a new StarDist network, when they were sent.
    pub channels: Option<usize>,
    /// Cellpose: the channels to segment and of the nuclei, 0 for grey and none.
    pub chosen: [usize; 2],
    /// Of the batches and augmentations.
    pub seed: Option<u64>,
    /// Weights of a new network.
    pub init: Start,
    /// The intensities that become 0 and 1, one pair for each channel or for all.
    pub range: Option<Vec<[f32; 2]>>,
    /// What the numbers of the labels mean.
    pub encoding: LabelEncoding,
    /// Of the prediction; its pixel size is that of all images.
    pub prediction: PredictOptions,
}

/// An image as it came.
#[derive(Debug)]
pub struct Sample<'a> {
    /// Base64 of an image file.
    pub image: Cow<'a, str>,
    /// Base64 of a label file.
    pub labels: Option<Cow<'a, str>>,
    /// Where it stands in the request.
    pub at: Vec<Location>,
}

/// The body of `POST /{algorithm}/reset/`.
#[derive(Debug)]
pub struct Reset {
    /// Which model.
    pub model: ModelName,
    /// A file to begin with.
    pub pretrained: Option<ModelName>,
}

/// Every field of a body.
pub const NAMES: [&str; 29] = [
    "modelname",
    "b64img",
    "b64lbl",
    "images",
    "train",
    "eval",
    "epochs",
    "trainpatch",
    "batchsize",
    "steps",
    "lr",
    "minarea",
    "simplify_tol",
    "n_channels_in",
    "chan1",
    "chan2",
    "seed",
    "init",
    "prob_thresh",
    "nms_thresh",
    "flow_threshold",
    "cellprob_threshold",
    "diameter",
    "low",
    "high",
    "label_encoding",
    "pixel_size",
    "rescale",
    "pretrained",
];

/// Crops in a batch of the original server, whatever the request says (Cellpose and ELEPHANT).
const CROPS: i64 = 8;

impl<'a> Segment<'a> {
    /// Reads the body.
    ///
    /// # Errors
    /// 422 with every field that cannot be used.
    pub fn read(body: &Json<'a>, algorithm: Algorithm, limits: &Limits) -> Result<Self, Refusal> {
        let mut fields = Reader::new(body, vec!["body".into()]);
        let model = fields.required_text("modelname");
        let (samples, several) = samples(&mut fields, limits);
        let train = fields.flag("train", false);
        let eval = fields.flag("eval", false);
        let numbers = Numbers {
            epochs: fields.integer("epochs").unwrap_or(1),
            patch: fields.integer("trainpatch").unwrap_or(224),
            batch: fields.integer("batchsize").unwrap_or(8),
            steps: fields.integer("steps").unwrap_or(200),
            rate: fields.float("lr"),
        };
        let mut prediction = prediction(&mut fields, algorithm);
        let simplify = fields.optional_float("simplify_tol").filter(|tolerance| *tolerance > 0.0);
        let seed = fields.optional_integer("seed");
        if let Some(seed) = seed {
            within(&mut fields, "seed", seed, 0, i64::MAX);
        }
        let init = fields.optional_text("init").map_or(Ok(Start::default()), |name| name.parse());
        let init = init.unwrap_or_else(|error: cellsparse_core::Error| {
            fields.refuse("init", error.to_string(), "value_error.init");
            Start::default()
        });
        let encoding = fields.optional_text("label_encoding").map_or(Ok(LabelEncoding::Wire), |name| name.parse());
        let encoding = encoding.unwrap_or_else(|error: cellsparse_core::Error| {
            fields.refuse("label_encoding", error.to_string(), "value_error.label_encoding");
            LabelEncoding::Wire
        });
        prediction.pixel_size = fields.optional_float("pixel_size").map(|side| [side, side]);
        if prediction.pixel_size.is_some_and(|[side, _]| side <= 0.0) {
            fields.refuse("pixel_size", "ensure this value is greater than 0", "value_error.number.not_gt");
        }
        prediction.rescale = fields.flag("rescale", true);
        let range = range(&mut fields);
        prediction.normalized = range.is_some();
        let channels = match algorithm {
            Algorithm::Stardist => fields.integer("n_channels_in"),
            _ => None,
        };
        let chosen = match algorithm {
            Algorithm::Cellpose => ["chan1", "chan2"].map(|name| fields.integer(name).unwrap_or(0)),
            _ => [0, 0],
        };
        if let Some(n) = channels {
            within(&mut fields, "n_channels_in", n, 1, 64);
        }
        for (name, value) in ["chan1", "chan2"].into_iter().zip(chosen) {
            within(&mut fields, name, value, 0, 64);
        }
        if train && fields.errors.is_empty() {
            numbers.check(&mut fields, algorithm, limits);
        }
        if !fields.errors.is_empty() {
            return Err(Refusal::fields(fields.errors));
        }
        Thresholds::of(algorithm).with(&prediction).map_err(|error| Refusal::from_core(error, Vec::new()))?;
        Ok(Self {
            model: ModelName::in_field(&model, "modelname")?,
            samples,
            several,
            train,
            eval,
            steps: usize_from(numbers.total(algorithm)),
            patch_size: usize_from(numbers.patch),
            batch_size: usize_from(numbers.batch),
            learning_rate: numbers.rate.map(|rate| rate as f32),
            simplify,
            channels: channels.map(usize_from),
            chosen: chosen.map(usize_from),
            seed: seed.and_then(|seed| u64::try_from(seed).ok()),
            init,
            range,
            encoding,
            prediction,
        })
    }
}

impl Reset {
    /// Reads the body.
    ///
    /// # Errors
    /// 422 with every field that cannot be used.
    pub fn read(body: &Json<'_>) -> Result<Self, Refusal> {
        let mut fields = Reader::new(body, vec!["body".into()]);
        let model = fields.required_text("modelname");
        let pretrained = fields.optional_text("pretrained");
        if !fields.errors.is_empty() {
            return Err(Refusal::fields(fields.errors));
        }
        Ok(Self {
            model: ModelName::in_field(&model, "modelname")?,
            pretrained: pretrained.map(|name| ModelName::in_field(&name, "pretrained")).transpose()?,
        })
    }
}

/// The object that a body must be.
///
/// # Errors
/// As [`Json::read`]; 422 as pydantic words it for a body that is no object.
pub fn object(body: &[u8]) -> Result<Json<'_>, Refusal> {
    match Json::read(body, &NAMES)? {
        None | Some(Json::Null) => Err(Refusal::field(vec!["body".into()], "field required", "value_error.missing")),
        Some(object @ Json::Object(_)) => Ok(object),
        Some(_) => Err(not_an_object()),
    }
}

/// The answer to a body that is no object.
pub fn not_an_object() -> Refusal {
    Refusal::field(vec!["body".into()], "value is not a valid dict", "type_error.dict")
}

/// How objects are told from the rest: what a request says of it stands in place of what the model chose.
fn prediction(fields: &mut Reader<'_, '_>, algorithm: Algorithm) -> PredictOptions {
    let min_area = fields.float("minarea").unwrap_or(10.0).clamp(0.0, 1e12) as f32;
    let mut options = PredictOptions { min_area, ..PredictOptions::default() };
    for name in AlgorithmOptions::names(algorithm) {
        let option = match *name {
            "prob_thresh" => &mut options.prob_thresh,
            "nms_thresh" => &mut options.nms_thresh,
            "flow_threshold" => &mut options.flow_threshold,
            "cellprob_threshold" => &mut options.cellprob_threshold,
            "diameter" => &mut options.diameter,
            _ => continue,
        };
        *option = fields.optional_float(name).map(|value| value as f32);
    }
    options
}

fn range(fields: &mut Reader<'_, '_>) -> Option<Vec<[f32; 2]>> {
    let (low, high) = (fields.optional_floats("low"), fields.optional_floats("high"));
    if low.is_none() && high.is_none() {
        return None;
    }
    let (low, high) = (low.unwrap_or_default(), high.unwrap_or_default());
    let rises = low.iter().zip(&high).all(|(low, high)| high - low >= f64::from(f32::MIN_POSITIVE));
    if low.is_empty() || low.len() != high.len() || !rises {
        let msg = "low and high are lists of the same length, one number for each channel or for all, high above low";
        fields.refuse("high", msg, "value_error.range");
        return None;
    }
    Some(low.into_iter().zip(high).map(|(low, high)| [low as f32, high as f32]).collect())
}

fn samples<'a>(fields: &mut Reader<'_, 'a>, limits: &Limits) -> (Vec<Sample<'a>>, bool) {
    let Some(list) = fields.list("images") else {
        let image = fields.required_text("b64img");
        let labels = fields.optional_text("b64lbl");
        return (vec![Sample { image, labels, at: vec!["body".into()] }], false);
    };
    if list.is_empty() || list.len() > limits.images {
        let msg = format!("{} images; give 1 to {}", list.len(), limits.images);
        fields.refuse("images", msg, "value_error.list.length");
        return (Vec::new(), true);
    }
    let mut samples = Vec::new();
    for (index, object) in list.iter().enumerate() {
        let at: Vec<Location> = fields.place("images").into_iter().chain([Location::Index(index)]).collect();
        let mut inner = Reader::new(object, at.clone());
        let image = inner.required_text("b64img");
        let labels = inner.optional_text("b64lbl");
        fields.errors.append(&mut inner.errors);
        samples.push(Sample { image, labels, at });
    }
    (samples, true)
}

/// The numbers of a training as they came.
struct Numbers {
    epochs: i64,
    patch: i64,
    batch: i64,
    steps: i64,
    rate: Option<f64>,
}

impl Numbers {
    fn check(&self, fields: &mut Reader<'_, '_>, algorithm: Algorithm, limits: &Limits) {
        within(fields, "epochs", self.epochs, 1, 1_000_000);
        within(fields, "trainpatch", self.patch, 16, 4096);
        within(fields, "batchsize", self.batch, 1, 256);
        within(fields, "steps", self.steps, 1, 1_000_000_000);
        if !fields.errors.is_empty() {
            return;
        }
        let total = self.total(algorithm);
        if total > limits.steps as i64 {
            let msg = format!("these are {total} optimiser steps; this server does {} at most", limits.steps);
            fields.refuse("steps", msg, "value_error.number.not_le");
        }
        if let Some(rate) = self.rate {
            let (limit_value, words, kind) = if rate > LARGEST_RATE as f64 {
                (LARGEST_RATE, "less than or equal to", "value_error.number.not_le")
            } else if rate > 0.0 {
                return;
            } else {
                (0, "greater than", "value_error.number.not_gt")
            };
            let msg = format!("ensure this value is {words} {limit_value}");
            let ctx = Some(Context::Limit { limit_value });
            fields.errors.push(FieldError { ctx, ..FieldError::new(fields.place("lr"), msg, kind) });
        }
    }

    /// Optimiser steps. StarDist: `epochs` times `steps`, as in the original. Cellpose and ELEPHANT, where the original
    /// counts `steps` in crops of which 8 make a batch: as many batches as it makes, and at least `steps`.
    fn total(&self, algorithm: Algorithm) -> i64 {
        let (epochs, steps) = (self.epochs.max(0), self.steps.max(0));
        match algorithm {
            Algorithm::Stardist => epochs.saturating_mul(steps),
            _ => epochs.saturating_mul(steps.saturating_add(CROPS - 1) / CROPS).max(steps),
        }
    }
}

/// Learning rate at most.
const LARGEST_RATE: i64 = 10_000;

fn within(fields: &mut Reader<'_, '_>, name: &str, value: i64, low: i64, high: i64) {
    let (limit, words, kind) = if value < low {
        (low, "greater", "value_error.number.not_ge")
    } else if value > high {
        (high, "less", "value_error.number.not_le")
    } else {
        return;
    };
    let place = fields.place(name);
    fields.errors.push(FieldError {
        ctx: Some(Context::Limit { limit_value: limit }),
        ..FieldError::new(place, format!("ensure this value is {words} than or equal to {limit}"), kind)
    });
}

fn usize_from(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(algorithm: Algorithm, body: &str) -> usize {
        let body = format!(r#"{{"modelname":"m","b64img":"","train":true{body}}}"#);
        Segment::read(&object(body.as_bytes()).unwrap(), algorithm, &Limits::default()).unwrap().steps
    }

    #[test]
    fn steps_are_at_least_those_of_the_original() {
        // What the QuPath extension 0.2.0 sends.
        assert_eq!(steps(Algorithm::Stardist, r#","epochs":1,"batchsize":8,"steps":200"#), 200);
        assert_eq!(steps(Algorithm::Cellpose, r#","epochs":5,"batchsize":8,"steps":200"#), 200);
        assert_eq!(steps(Algorithm::Elephant, r#","epochs":1,"batchsize":8,"steps":200"#), 200);
        // The defaults of the server, and of the original runners.
        assert_eq!(steps(Algorithm::Cellpose, ""), 200);
        assert_eq!(steps(Algorithm::Stardist, r#","epochs":3,"steps":10"#), 30);
        assert_eq!(steps(Algorithm::Cellpose, r#","epochs":100,"steps":8"#), 100);
        assert_eq!(steps(Algorithm::Elephant, r#","epochs":100,"steps":1"#), 100);
    }

    #[test]
    fn every_wrong_field_is_named() {
        let json = object(br#"{"modelname": null, "train": true, "steps": "many", "simplify_tol": []}"#).unwrap();
        let error = Segment::read(&json, Algorithm::Stardist, &Limits::default()).unwrap_err();
        assert_eq!(error.status(), 422);
        for part in ["none is not", "field required", "valid integer", "valid float"] {
            assert!(error.reason().contains(part), "{}", error.reason());
        }
        let json =
            object(br#"{"modelname":"m","b64img":"","train":true,"steps":0,"batchsize":100000,"lr":0}"#).unwrap();
        let error = Segment::read(&json, Algorithm::Stardist, &Limits::default()).unwrap_err();
        assert!(error.reason().contains("greater than or equal to 1"), "{}", error.reason());
        let json = object(br#"{"modelname":"../x","b64img":""}"#).unwrap();
        assert!(Segment::read(&json, Algorithm::Stardist, &Limits::default()).is_err());
        assert_eq!(object(b"3").unwrap_err().status(), 422);
        assert_eq!(object(b"").unwrap_err().reason(), "field required");
    }
}
