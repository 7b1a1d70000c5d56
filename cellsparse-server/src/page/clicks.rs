//! Click to outline: the network that the server was started with, if it was, and what the page asks it.

use std::borrow::Cow;
use std::path::Path;

use cellsparse_core::model::Device;
use cellsparse_core::raster::Image;
use cellsparse_core::raster::regions::Region;
use cellsparse_core::{Budget, CancelToken, Result as CoreResult};
use ndarray::{Array3, ArrayView3};
use serde::Deserialize;
use serde_json::Value;

#[cfg(feature = "sam")]
pub use self::network::Clicks;
#[cfg(not(feature = "sam"))]
pub use self::nothing::Clicks;
use crate::errors::Refusal;

/// Channels that an image is shown by, at most.
const MOST_CHANNELS: usize = 64;

/// How a server without weights is started with some.
#[cfg(feature = "sam")]
const START: &str = "Start it with them: cellsparse serve --sam FILE";

/// How to get a program that can.
#[cfg(not(feature = "sam"))]
const BUILD: &str =
    "this program is built without SAM; for one with it: cargo build --release -p cellsparse-cli --features sam";

/// What the page asks: points and a box of one object, `[x, y]` in pixels from the corner of the image. Without both, the image is
/// looked at, so that the first outline comes soon.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(not(feature = "sam"), allow(dead_code))]
pub struct Asked {
    /// Points in the object.
    #[serde(default)]
    pub inside: Vec<[f64; 2]>,
    /// Points beside it.
    #[serde(default)]
    pub outside: Vec<[f64; 2]>,
    /// Left, upper, right and lower edge of a box around it.
    pub rectangle: Option<[f64; 4]>,
    /// What is seen of the image: first row and column, and those behind the last ones.
    pub view: Option<[usize; 4]>,
    /// How the image is shown; without it, the samples are looked at as they are.
    pub channels: Option<Vec<Shown>>,
}

/// A channel as it is shown: black at `low`, of the full colour at `high`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Shown {
    /// Its number, from 0.
    pub index: usize,
    /// Sample that is black.
    pub low: f64,
    /// Sample that has the full colour.
    pub high: f64,
    /// Red, green and blue, 0 to 255.
    pub colour: [f64; 3],
}

/// What a look at an image may take.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "sam"), allow(dead_code))]
pub struct Allowed {
    /// Memory.
    pub memory: Option<Budget>,
    /// Raised when its client goes away.
    pub cancel: CancelToken,
}

/// Red, green and blue of 8 bit as the page shows them.
///
/// # Errors
/// 422 for channels that the image does not have.
#[cfg_attr(not(feature = "sam"), allow(dead_code))]
fn shown(image: &Image, channels: &[Shown]) -> Result<Image, Refusal> {
    let there = image.channels();
    let odd =
        |one: &&Shown| one.index >= there || !one.colour.iter().chain([&one.low, &one.high]).all(|v| v.is_finite());
    if let Some(odd) = channels.iter().find(odd) {
        let msg =
            format!("a channel is shown as {odd:?}; the image has {there}, counted from 0, and numbers must be finite");
        return Err(Refusal::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, msg));
    }
    if channels.len() > MOST_CHANNELS {
        let msg = format!("{} channels are shown; show {MOST_CHANNELS} at most", channels.len());
        return Err(Refusal::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, msg));
    }
    Ok(Image::U8(match image {
        Image::U8(pixels) => coloured(pixels.view(), channels),
        Image::U16(pixels) => coloured(pixels.view(), channels),
        Image::F32(pixels) => coloured(pixels.view(), channels),
        _ => return Err(Refusal::internal("an unknown type of samples")),
    }))
}

fn coloured<T: Copy + Into<f64>>(pixels: ArrayView3<'_, T>, channels: &[Shown]) -> Array3<u8> {
    let (rows, columns, _) = pixels.dim();
    let mut colours = Array3::zeros((rows, columns, 3));
    for (pixels, mut colours) in pixels.outer_iter().zip(colours.outer_iter_mut()) {
        for (samples, mut colour) in pixels.outer_iter().zip(colours.outer_iter_mut()) {
            let mut sums = [0.0; 3];
            for one in channels {
                let range = if one.high == one.low { 1.0 } else { one.high - one.low };
                let sample: f64 = samples[one.index].into();
                let value = ((sample - one.low) / range).clamp(0.0, 1.0);
                sums.iter_mut().zip(one.colour).for_each(|(sum, colour)| *sum += value * colour);
            }
            colour.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum.round().clamp(0.0, 255.0) as u8);
        }
    }
    colours
}

#[cfg(feature = "sam")]
mod network {
    use axum::http::StatusCode;
    use cellsparse_core::sam::{EncodeOptions, Outliner, Point, Prompt, SOURCES, Sam};
    use serde_json::json;

    use super::*;
    use crate::page::talk::about_project;

    /// The network, if there is one.
    #[derive(Debug)]
    pub struct Clicks(Option<Outliner>);

    impl Clicks {
        /// With the weights of a file, if there is one.
        ///
        /// # Errors
        /// As [`Sam::load`].
        pub fn open(weights: Option<&Path>, device: Device, threads: Option<usize>) -> CoreResult<Self> {
            let sam = weights.map(|weights| Sam::load(weights, device)).transpose()?;
            Ok(Self(sam.map(|sam| Outliner::new(sam, threads))))
        }

        /// Which network it is, or how to get one.
        pub fn told(&self) -> Value {
            match &self.0 {
                Some(outliner) => json!({ "kind": outliner.sam().kind().to_string() }),
                None => json!({ "kind": null, "missing": missing() }),
            }
        }

        /// The object that was pointed at, in the image of `[rows, columns]` as it is shown; `read` gives the samples of a part. Blocks.
        ///
        /// # Errors
        /// 404 without a network, 422 for what cannot be outlined, and as of a prediction.
        pub fn outline<'a>(
            &self,
            [rows, columns]: [usize; 2],
            read: impl FnOnce(Region) -> CoreResult<Cow<'a, Image>>,
            asked: &Asked,
            allowed: &Allowed,
        ) -> Result<Value, Refusal> {
            let Some(outliner) = &self.0 else { return Err(Refusal::new(StatusCode::NOT_FOUND, missing())) };
            let prompt = prompt(asked);
            let looks = prompt.points.is_empty() && prompt.rectangle.is_none();
            if !looks {
                prompt.check_from_corner([rows, columns]).map_err(about_project)?;
            }
            let view = asked.view.map(|[top, left, bottom, right]| Region {
                top,
                left,
                height: bottom.saturating_sub(top),
                width: right.saturating_sub(left),
            });
            let part = outliner.part([rows, columns], view, &prompt);
            let pixels = read(part).map_err(about_project)?;
            let pixels = match &asked.channels {
                Some(channels) => Cow::Owned(shown(&pixels, channels)?),
                None => pixels,
            };
            let options = EncodeOptions { memory: allowed.memory, cancel: allowed.cancel.clone() };
            let at = [part.top, part.left, part.bottom(), part.left + part.width];
            if looks {
                outliner.embedding(&pixels, &options).map_err(about_project)?;
                return Ok(json!({ "part": at, "encoded": outliner.encoded() }));
            }
            let found = outliner.outline(&pixels, part, &prompt, &options).map_err(about_project)?;
            let score = (f64::from(found.score) * 1e3).round() / 1e3;
            Ok(json!({ "part": at, "encoded": outliner.encoded(), "score": score, "pixels": found.pixels }))
        }
    }

    fn missing() -> String {
        format!("This server was started without weights of SAM; {SOURCES}. {START}.")
    }

    /// In the coordinates of the network: whole numbers are centres of pixels.
    fn prompt(asked: &Asked) -> Prompt {
        let points = |points: &[[f64; 2]], inside: bool| -> Vec<Point> {
            points.iter().map(|[x, y]| Point { x: x - 0.5, y: y - 0.5, inside }).collect()
        };
        Prompt {
            points: [points(&asked.inside, true), points(&asked.outside, false)].concat(),
            rectangle: asked.rectangle.map(|edges| edges.map(|edge| edge - 0.5)),
        }
    }
}

#[cfg(not(feature = "sam"))]
mod nothing {
    use cellsparse_core::Error;
    use serde_json::json;

    use super::*;

    /// No network, and how to get one.
    #[derive(Debug)]
    pub struct Clicks;

    impl Clicks {
        /// Refuses weights.
        ///
        /// # Errors
        /// [`Error::Config`] for a file.
        pub fn open(weights: Option<&Path>, _: Device, _: Option<usize>) -> CoreResult<Self> {
            match weights {
                Some(_) => Err(Error::Config(BUILD.into())),
                None => Ok(Self),
            }
        }

        /// How to get one.
        pub fn told(&self) -> Value {
            json!({ "kind": null, "missing": format!("Outlines by click need SAM, and {BUILD}") })
        }

        /// Nothing.
        ///
        /// # Errors
        /// 404, always.
        pub fn outline<'a>(
            &self,
            _: [usize; 2],
            _: impl FnOnce(Region) -> CoreResult<Cow<'a, Image>>,
            _: &Asked,
            _: &Allowed,
        ) -> Result<Value, Refusal> {
            Err(Refusal::new(axum::http::StatusCode::NOT_FOUND, BUILD))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(index: usize, low: f64, high: f64, colour: [f64; 3]) -> Shown {
        Shown { index, low, high, colour }
    }

    #[test]
    fn an_image_is_looked_at_as_it_is_shown() {
        let image = Image::U16(Array3::from_shape_fn((1, 3, 2), |(_, x, c)| [[100, 0], [150, 50], [900, 100]][x][c]));
        let both = [channel(0, 100.0, 200.0, [255.0, 0.0, 0.0]), channel(1, 0.0, 100.0, [0.0, 80.0, 255.0])];
        let Image::U8(colours) = shown(&image, &both).unwrap() else { panic!("8 bit") };
        assert_eq!(colours.into_raw_vec_and_offset().0, [0, 0, 0, 128, 40, 128, 255, 80, 255]);
        let flat = [channel(0, 100.0, 100.0, [255.0; 3])];
        let Image::U8(colours) = shown(&image, &flat).unwrap() else { panic!("8 bit") };
        assert_eq!(colours.into_raw_vec_and_offset().0, [0, 0, 0, 255, 255, 255, 255, 255, 255]);
        assert!(shown(&image, &[channel(2, 0.0, 1.0, [255.0; 3])]).is_err());
        assert!(shown(&image, &[channel(0, f64::NAN, 1.0, [255.0; 3])]).is_err());
        assert!(shown(&image, &[both[0]; 65]).is_err());
    }

    #[test]
    fn without_weights_it_is_told_how_to_get_them() {
        let clicks = Clicks::open(None, Device::Cpu, None).unwrap();
        let told = clicks.told();
        assert!(told["kind"].is_null() && told["missing"].as_str().unwrap().contains("SAM"), "{told}");
        let image = Image::U8(Array3::zeros((2, 2, 1)));
        let allowed = Allowed { memory: None, cancel: CancelToken::new() };
        let refusal = clicks.outline([2, 2], |_| Ok(Cow::Borrowed(&image)), &Asked::default(), &allowed).unwrap_err();
        assert_eq!(refusal.status(), axum::http::StatusCode::NOT_FOUND);
        assert!(Clicks::open(Some(Path::new("absent.pth")), Device::Cpu, None).is_err());
    }
}
