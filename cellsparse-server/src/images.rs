//! Pixels out of the texts of a request.

use axum::http::StatusCode;
use cellsparse_core::annotations::{LabelEncoding, LabelSource, SparseLabels, choose_encoding};
use cellsparse_core::error::counted;
use cellsparse_core::formats::base64;
use cellsparse_core::model::Algorithm;
use cellsparse_core::raster::{Image, RawLabels, ReadLimits, ReadOptions, decode_image_with, decode_labels_with};
use cellsparse_core::{CancelToken, Error, Result as CoreResult};
use ndarray::{Array3, Axis, concatenate};

use super::errors::{Location, Refusal};
use super::fields::Sample;

/// An image of a request.
pub struct RequestImage {
    /// Its pixels.
    pub image: Image,
    /// Its labels.
    pub labels: Labels,
    /// Where it stands in the request.
    pub at: Vec<Location>,
}

impl RequestImage {
    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let sample = match &self.image {
            Image::U8(_) => 1,
            Image::U16(_) => 2,
            _ => 4,
        };
        let pixels = self.image.height() * self.image.width();
        let labels = if matches!(self.labels, Labels::Drawn(_)) { size_of::<i32>() } else { 0 };
        pixels * (self.image.channels() * sample + labels)
    }
}

/// The labels of an image.
pub enum Labels {
    /// None were sent.
    Absent,
    /// Sent, and all of them 0: nothing is annotated.
    Empty,
    /// Sent, with background and no cell.
    NoCell,
    /// Sent, and of another size than the image; the reason.
    Misfit(String),
    /// Usable.
    Drawn(SparseLabels),
}

/// Bytes that one pixel takes when decoded, at most: a bound before the number of channels is known.
const PIXEL_BYTES: usize = 16;

/// Reads an image and, if they are `wanted`, its labels, which mean what the encoding says. Of the pairs in `range`, one
/// for each channel or for all, the first becomes the intensity 0 and the second 1.
///
/// # Errors
/// 422 that names the field, 413 for an image with more than `pixels` pixels.
pub fn read(
    sample: &Sample<'_>,
    wanted: Option<LabelEncoding>,
    range: Option<&[[f32; 2]]>,
    pixels: usize,
    cancel: &CancelToken,
) -> Result<RequestImage, Refusal> {
    let place = |name: &str| -> Vec<Location> { sample.at.iter().cloned().chain([name.into()]).collect() };
    let bytes = bytes(&sample.image, place("b64img"), pixels)?;
    let file = decode_image_with(&bytes, &reading(pixels, cancel));
    let image = file.map_err(|error| Refusal::from_core(error, place("b64img")))?.image;
    check_size(image.height(), image.width(), pixels, "image")?;
    let image = match range {
        Some(range) => scaled(&image, range)?,
        None => image,
    };
    let labels = match (&sample.labels, wanted) {
        (Some(text), Some(encoding)) => {
            let at = place("b64lbl");
            let raw = raw_labels(text, &at, pixels, cancel)?;
            labels(raw, &image, encoding).map_err(|error| Refusal::from_core(error, at))?
        }
        _ => Labels::Absent,
    };
    Ok(RequestImage { image, labels, at: sample.at.clone() })
}

/// What the numbers of all label files of a request mean, with the reason where they had to be judged.
///
/// # Errors
/// 422 when they cannot be read, or could mean opposite things.
pub fn encoding(
    samples: &[Sample<'_>],
    stated: LabelEncoding,
    pixels: usize,
    cancel: &CancelToken,
) -> Result<(LabelEncoding, Option<String>), Refusal> {
    if stated != LabelEncoding::Auto {
        return Ok((stated, None));
    }
    let (mut sources, mut first) = (Vec::new(), Vec::new());
    for sample in samples {
        let Some(text) = &sample.labels else { continue };
        let at: Vec<Location> = sample.at.iter().cloned().chain(["b64lbl".into()]).collect();
        sources.push(LabelSource::Values(raw_labels(text, &at, pixels, cancel)?));
        if first.is_empty() {
            first = at;
        }
    }
    if sources.is_empty() {
        return Ok((LabelEncoding::Wire, None));
    }
    let choice = choose_encoding(&sources, stated).map_err(|error| Refusal::from_core(error, first))?;
    let note = format!("labels: {} ({}), because {}", choice.encoding, choice.encoding.meaning(), choice.reason);
    Ok((choice.encoding, Some(note)))
}

fn reading(pixels: usize, cancel: &CancelToken) -> ReadOptions {
    let limits = ReadLimits { decoded_bytes: pixels.saturating_mul(PIXEL_BYTES), ..ReadLimits::default() };
    ReadOptions { cancel: cancel.clone(), ..ReadOptions::from(limits) }
}

fn raw_labels(text: &str, at: &[Location], pixels: usize, cancel: &CancelToken) -> Result<RawLabels, Refusal> {
    let bytes = bytes(text, at.to_vec(), pixels)?;
    let raw = decode_labels_with(&bytes, &reading(pixels, cancel));
    let raw = raw.map_err(|error| Refusal::from_core(error, at.to_vec()))?;
    let (rows, columns) = raw.shape();
    check_size(rows, columns, pixels, "label image")?;
    Ok(raw)
}

fn scaled(image: &Image, range: &[[f32; 2]]) -> Result<Image, Refusal> {
    let channels = image.channels();
    if range.len() != 1 && range.len() != channels {
        let msg = format!(
            "{} for an image with {}; give one, or one for each",
            counted(range.len(), "number"),
            counted(channels, "channel")
        );
        return Err(Refusal::field(vec!["body".into(), "low".into()], msg, "value_error.range"));
    }
    let mut pixels = image.to_f32();
    for (mut plane, [low, high]) in pixels.axis_iter_mut(Axis(2)).zip(range.iter().cycle()) {
        plane.mapv_inplace(|value| (value - low) / (high - low));
    }
    Ok(Image::F32(pixels))
}

/// The image with the channels that a network of `wanted` channels reads. `chosen` are Cellpose's channels.
///
/// Where the network reads one channel, the channels of a colour image are averaged; where it reads several, those of a
/// grey one are repeated.
///
/// # Errors
/// 422 for a channel that the image does not have.
pub fn fit(
    image: &Image,
    algorithm: Algorithm,
    wanted: usize,
    chosen: [usize; 2],
    at: &[Location],
) -> Result<Image, Refusal> {
    let found = image.channels();
    if algorithm == Algorithm::Cellpose {
        return pick(image, wanted, chosen, at);
    }
    Ok(match (found, wanted) {
        (many, 1) if many > 1 => mean(image),
        (1, many) if many > 1 => {
            let pixels = image.to_f32();
            repeated(&pixels, many).map(Image::F32).map_err(|error| Refusal::from_core(error, at.to_vec()))?
        }
        _ => image.clone(),
    })
}

/// Cellpose's two channels: 0 is grey for the first and none for the second; a grey image is grey whatever was chosen.
fn pick(image: &Image, wanted: usize, chosen: [usize; 2], at: &[Location]) -> Result<Image, Refusal> {
    let found = image.channels();
    if found == 1 || chosen == [0, 0] {
        // The library averages channels and adds an empty second one where the network wants it.
        return Ok(image.clone());
    }
    for (name, channel) in ["chan1", "chan2"].into_iter().zip(chosen) {
        if channel > found {
            let msg = format!(
                "channel {channel} of an image with {}; give 0 (grey or none) to {found}",
                counted(found, "channel")
            );
            return Err(Refusal::field(vec!["body".into(), name.into()], msg, "value_error.number.not_le"));
        }
    }
    if chosen[1] > 0 && wanted < 2 {
        let msg = "the model reads one channel; train a new model to segment with a channel of nuclei";
        return Err(Refusal::field(vec!["body".into(), "chan2".into()], msg, "value_error.option"));
    }
    let pixels = image.to_f32();
    let plane = |channel: usize| match channel {
        0 => mean(image).to_f32(),
        channel => pixels.index_axis(Axis(2), channel - 1).to_owned().insert_axis(Axis(2)),
    };
    let first = plane(chosen[0]);
    let stacked = match chosen[1] {
        0 => first,
        second => concatenate(Axis(2), &[first.view(), plane(second).view()])
            .map_err(|error| Refusal::from_core(Error::Internal(error.to_string()), at.to_vec()))?,
    };
    Ok(Image::F32(stacked))
}

fn mean(image: &Image) -> Image {
    let pixels = image.to_f32();
    let count = image.channels().max(1) as f32;
    Image::F32((pixels.sum_axis(Axis(2)) / count).insert_axis(Axis(2)))
}

fn repeated(pixels: &Array3<f32>, times: usize) -> CoreResult<Array3<f32>> {
    let planes = vec![pixels.view(); times];
    concatenate(Axis(2), &planes).map_err(|error| Error::Internal(error.to_string()))
}

fn labels(raw: RawLabels, image: &Image, encoding: LabelEncoding) -> CoreResult<Labels> {
    if encoding != LabelEncoding::Wire {
        if let Some(misfit) = misfit(raw.shape(), image) {
            return Ok(misfit);
        }
        let labels = SparseLabels::parse(raw, encoding)?;
        return Ok(match labels.object_count() {
            0 if labels.labels().iter().all(|label| *label < 0) => Labels::Empty,
            0 => Labels::NoCell,
            _ => Labels::Drawn(labels),
        });
    }
    let values = match raw {
        RawLabels::Unsigned(values) => values,
        RawLabels::Signed(values) => {
            if let Some(((y, x), value)) = values.indexed_iter().find(|(_, value)| **value < 0) {
                return Err(Error::Labels(format!(
                    "the pixel at row {y}, column {x} is {value}; expected 0 unlabelled, 1 background, 2 and up cells"
                )));
            }
            values.mapv(i32::unsigned_abs)
        }
        _ => return Err(Error::Labels("label values of this type are not supported".into())),
    };
    if let Some(misfit) = misfit(values.dim(), image) {
        return Ok(misfit);
    }
    match values.iter().copied().max().unwrap_or(0) {
        0 => Ok(Labels::Empty),
        1 => Ok(Labels::NoCell),
        _ => SparseLabels::from_wire(values).map(Labels::Drawn),
    }
}

fn misfit((rows, columns): (usize, usize), image: &Image) -> Option<Labels> {
    let size = (image.height(), image.width());
    ((rows, columns) != size).then(|| {
        Labels::Misfit(format!(
            "the image has {} x {} pixels (rows x columns) and its labels have {rows} x {columns}; they must be the same",
            size.0, size.1
        ))
    })
}

fn bytes(text: &str, at: Vec<Location>, pixels: usize) -> Result<Vec<u8>, Refusal> {
    let bytes = base64::decode(text).map_err(|reason| Refusal::field(at, reason, "value_error.base64"))?;
    // Width and height stand in the first chunk of a PNG: a lying one is refused before anything is set up for it.
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n")
        && let Some(&[a, b, c, d, e, f, g, h]) = bytes.get(16..24)
    {
        let side = |bytes: [u8; 4]| u32::from_be_bytes(bytes) as usize;
        check_size(side([e, f, g, h]), side([a, b, c, d]), pixels, "image")?;
    }
    Ok(bytes)
}

fn check_size(rows: usize, columns: usize, pixels: usize, what: &str) -> Result<(), Refusal> {
    match rows.checked_mul(columns) {
        Some(count) if count <= pixels => Ok(()),
        _ => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("an {what} of {rows} x {columns} pixels; this server takes {pixels} pixels at most")
                .replacen("an label", "a label", 1),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ndarray::{Array2, array};
    use serde_json::Value;

    use super::*;

    fn recorded() -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/cellsparse/label_png.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn sample<'a>(record: &'a Value, kind: &str) -> Sample<'a> {
        let text = |name: &str| record[name].as_str().unwrap();
        Sample { image: text("gray8").into(), labels: Some(text(kind).into()), at: vec!["body".into()] }
    }

    #[test]
    fn recorded_label_files_of_every_kind_hold_the_same_labels() {
        let record = recorded();
        let values: Vec<i32> =
            record["encoded_label"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap() as i32).collect();
        let values = Array2::from_shape_vec((48, 60), values).unwrap();
        for (kind, factor) in [("gray8", 1), ("palette8", 1), ("gray16", 300)] {
            let field =
                read(&sample(&record, kind), Some(LabelEncoding::Wire), None, 10_000, &CancelToken::new()).unwrap();
            let Labels::Drawn(labels) = field.labels else { panic!("{kind}") };
            assert_eq!(labels.labels(), &values.mapv(|value| (value * factor - 1).max(-1)), "{kind}");
        }
        assert!(matches!(
            read(&sample(&record, "gray8"), None, None, 10_000, &CancelToken::new()).unwrap().labels,
            Labels::Absent
        ));
        let wire = Some(LabelEncoding::Wire);
        assert_eq!(read(&sample(&record, "gray8"), wire, None, 1000, &CancelToken::new()).err().unwrap().status(), 413);
        let cells =
            read(&sample(&record, "gray8"), Some(LabelEncoding::Cells), None, 10_000, &CancelToken::new()).unwrap();
        let Labels::Drawn(labels) = cells.labels else { panic!("cells") };
        assert_eq!(labels.labels(), &values.mapv(|value| if value == 0 { -1 } else { value }));
    }

    #[test]
    fn channels_are_averaged_repeated_and_chosen() {
        let colour = Image::U8(Array3::from_shape_fn((1, 2, 3), |(_, x, c)| (10 * x + [3, 6, 9][c]) as u8));
        let planes = |algorithm, image: &Image, wanted, chosen| {
            fit(image, algorithm, wanted, chosen, &[]).map(|image| image.to_f32()).map_err(|refusal| refusal.status())
        };
        let mean = planes(Algorithm::Elephant, &colour, 1, [0, 0]).unwrap();
        assert_eq!(mean.index_axis(Axis(2), 0), array![[6.0, 16.0]]);
        assert_eq!(planes(Algorithm::Stardist, &colour, 3, [0, 0]).unwrap().dim(), (1, 2, 3));
        let grey = Image::U8(Array3::from_elem((1, 2, 1), 7));
        assert_eq!(planes(Algorithm::Stardist, &grey, 3, [0, 0]).unwrap(), Array3::from_elem((1, 2, 3), 7.0));
        let red = planes(Algorithm::Cellpose, &colour, 1, [1, 0]).unwrap();
        assert_eq!(red.index_axis(Axis(2), 0), array![[3.0, 13.0]]);
        let both = planes(Algorithm::Cellpose, &colour, 2, [0, 3]).unwrap();
        assert_eq!((both[[0, 0, 0]], both[[0, 0, 1]]), (6.0, 9.0));
        assert_eq!(planes(Algorithm::Cellpose, &colour, 1, [0, 3]).unwrap_err(), 422);
        assert_eq!(planes(Algorithm::Cellpose, &colour, 2, [4, 0]).unwrap_err(), 422);
        assert_eq!(planes(Algorithm::Cellpose, &grey, 1, [3, 0]).unwrap().dim(), (1, 2, 1));
    }
}
