//! Click to outline: objects from points and boxes by the Segment Anything Model, with weights that the caller has.

use std::ffi::c_char;
use std::mem::MaybeUninit;

use crate::boundary::enter;
use crate::handles::{Behind, Table};
use crate::library::{Token, cellsparse_cancel};
use crate::options;
use crate::pointers::{array, check_array, copy_out, expect, given, optional_text, put_text, text};
use crate::segmentation::{Found, cellsparse_segmentation};
use crate::status::{Outcome, cellsparse_status};
use crate::views::cellsparse_image;

/// A network of SAM or MobileSAM with its weights and what it saw in the last images. Opaque; any number of threads may use it.
pub struct cellsparse_sam {
    _opaque: (),
}

pub(crate) struct Clicks(network::Network);

impl Behind for Clicks {
    type Token = cellsparse_sam;
    const NAME: &'static str = "sam";

    fn table() -> &'static Table<Self> {
        static TABLE: Table<Clicks> = Table::new();
        &TABLE
    }
}

/// Loads weights of SAM (sam_vit_b_01ec64.pth and its larger ones, from
/// https://github.com/facebookresearch/segment-anything#model-checkpoints) or MobileSAM (weights/mobile_sam.pt, from
/// https://github.com/ChaoningZhang/MobileSAM), or the same arrays as safetensors. None are in the library, none are downloaded, and
/// nothing in the file is executed.
///
/// `options` is a JSON object, or NULL for the defaults: device ("auto"), threads. A library that is built without the feature sam
/// returns CELLSPARSE_STATUS_DEVICE. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_sam_load(
    path: *const c_char,
    options: *const c_char,
    sam_out: Option<&mut MaybeUninit<*mut cellsparse_sam>>,
) -> cellsparse_status {
    enter(|| {
        expect(&sam_out, "sam_out")?;
        // SAFETY: the caller's promise about its texts.
        let (path, options) = unsafe { (text(path, "path")?, optional_text(options, "options")?) };
        Clicks(network::Network::load(path, options::sam(options)?)?).publish(sam_out, "sam_out")
    })
}

/// What can be said about a network, as a JSON object: kind ("vit_b", "vit_l", "vit_h", "vit_t" or "other"), size (pixels along what
/// it sees of an image, 1024 but for networks of other sizes). Free the text with cellsparse_string_free(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_sam_info(
    sam: *const cellsparse_sam,
    json_out: Option<&mut MaybeUninit<*const c_char>>,
) -> cellsparse_status {
    enter(|| {
        expect(&json_out, "json_out")?;
        put_text(json_out, Clicks::find(sam)?.0.info().to_string(), "json_out")
    })
}

/// The part of an image of `height` x `width` pixels to give to cellsparse_sam_masks(), so that what one looks at is seen about as fine as
/// the network sees: a small image whole, of a larger one a square around `view`. Views near each other lead to the same part, which is
/// then encoded once. All of the prompts lie in it.
///
/// `view` is what one looks at, as first row, first column, rows and columns, or NULL for all of the image; `prompts` is as of
/// cellsparse_sam_masks(), in the coordinates of the image. `part` takes first row, first column, rows and columns. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_sam_part(
    sam: *const cellsparse_sam,
    height: usize,
    width: usize,
    view: *const usize,
    prompts: *const c_char,
    part: *mut usize,
) -> cellsparse_status {
    enter(|| {
        check_array(part, 4, "part")?;
        let sam = Clicks::find(sam)?;
        // SAFETY: the caller's promise about its texts.
        let prompts = options::prompts(unsafe { text(prompts, "prompts") }?)?;
        // SAFETY: the caller's promise about `view`.
        let view: &[usize] = if view.is_null() { &[] } else { unsafe { array(view, 4, "view") }? };
        let found = sam.0.part([height, width], view.try_into().ok(), prompts);
        // SAFETY: the caller's promise about `part`.
        unsafe { copy_out(&found, part, 4, "part") }
    })
}

/// The objects that points and boxes point at. An image takes seconds when it is first given, one at a time; what was seen in the last
/// images is kept, 256 MiB of it at most, so that further objects of them take a fraction of a second.
///
/// `image` has 1 to 3 channels. Samples of 8 bit are taken as they are; of others the percentiles 0.1 and 99.9 of each channel become
/// black and white. The longer side is reduced to the size of the network: give a part of a large image.
///
/// `prompts` is a JSON array with an object for each object that is wanted: {"points": [[x, y, 1], [x, y, 0]], "box": [x0, y0, x1, y1]},
/// one of the two or both, in pixel-corner coordinates; 1 is a point in the object, 0 one beside it. Object i + 1 of the segmentation
/// is that of prompt i, without specks beside it and without holes, and absent where nothing was found; a pixel of several belongs to
/// the first. Its probability is the overlap with the object that the network estimates.
///
/// `options` is a JSON object, or NULL for the defaults: memory (bytes, or a text like "4G"; half of what is free). `cancel` may be NULL;
/// raised, it ends the call with CELLSPARSE_STATUS_CANCELLED. Any thread, also several at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_sam_masks(
    sam: *const cellsparse_sam,
    image: Option<&cellsparse_image>,
    prompts: *const c_char,
    options: *const c_char,
    cancel: *const cellsparse_cancel,
    segmentation_out: Option<&mut MaybeUninit<*mut cellsparse_segmentation>>,
) -> cellsparse_status {
    enter(|| {
        expect(&segmentation_out, "segmentation_out")?;
        let sam = Clicks::find(sam)?;
        let image = given(image, "image")?;
        // SAFETY: the caller's promise about its texts.
        let (prompts, options) = unsafe { (text(prompts, "prompts")?, optional_text(options, "options")?) };
        let (prompts, options) = (options::prompts(prompts)?, options::looking(options)?);
        // SAFETY: the caller's promise about the buffer of the image.
        let image = unsafe { image.to_image() }?;
        let found = sam.0.segment(&image, prompts, options, Token::optional(cancel)?)?;
        Found(found).publish(segmentation_out, "segmentation_out")
    })
}

/// Frees a network. Any thread; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_sam_free(sam: *mut cellsparse_sam) -> cellsparse_status {
    enter(|| Clicks::free(sam))
}

#[cfg(feature = "sam")]
mod network {
    use cellsparse_core::raster::regions::Region;
    use cellsparse_core::sam::{EncodeOptions, Outliner, Point, Prompt, Sam};
    use cellsparse_core::{Budget, CancelToken, Image, Segmentation};
    use serde_json::{Value, json};

    use super::Outcome;
    use crate::options::{AskedObject, SamOptions};

    pub struct Network(Outliner);

    impl Network {
        pub fn load(path: &str, options: SamOptions) -> Outcome<Self> {
            Ok(Self(Outliner::new(Sam::load(path, options.device)?, options.threads)))
        }

        pub fn info(&self) -> Value {
            json!({ "kind": self.0.sam().kind().to_string(), "size": self.0.sam().size() })
        }

        pub fn part(&self, size: [usize; 2], view: Option<[usize; 4]>, prompts: Vec<AskedObject>) -> [usize; 4] {
            let mut all = Prompt::default();
            for one in prompts.into_iter().map(prompt) {
                all.points.extend(one.points);
                let corners = one.rectangle.into_iter().flat_map(|[x0, y0, x1, y1]| [[x0, y0], [x1, y1]]);
                all.points.extend(corners.map(|[x, y]| Point { x, y, inside: true }));
            }
            let view = view.map(|[top, left, height, width]| Region { top, left, height, width });
            let Region { top, left, height, width } = self.0.part(size, view, &all);
            [top, left, height, width]
        }

        pub fn segment(
            &self,
            image: &Image,
            prompts: Vec<AskedObject>,
            memory: Option<Budget>,
            cancel: CancelToken,
        ) -> Outcome<Segmentation> {
            let prompts: Vec<Prompt> = prompts.into_iter().map(prompt).collect();
            let size = [image.height(), image.width()];
            prompts.iter().try_for_each(|prompt| prompt.check_from_corner(size))?;
            Ok(self.0.segment(image, &prompts, &EncodeOptions { memory, cancel })?)
        }
    }

    /// In the coordinates of the network: whole numbers are centres of pixels.
    fn prompt(asked: AskedObject) -> Prompt {
        let point = |[x, y, label]: [f64; 3]| Point { x: x - 0.5, y: y - 0.5, inside: label > 0.0 };
        Prompt {
            points: asked.points.into_iter().map(point).collect(),
            rectangle: asked.rectangle.map(|edges| edges.map(|edge| edge - 0.5)),
        }
    }
}

#[cfg(not(feature = "sam"))]
mod network {
    use cellsparse_core::{Budget, CancelToken, Error, Image, Segmentation};
    use serde_json::Value;

    use super::Outcome;
    use crate::options::{AskedObject, SamOptions};

    /// None.
    pub enum Network {}

    impl Network {
        pub fn load(_: &str, _: SamOptions) -> Outcome<Self> {
            Err(Error::Device("this library is built without SAM; build it with the feature sam".into()).into())
        }

        pub fn info(&self) -> Value {
            match *self {}
        }

        pub fn part(&self, _: [usize; 2], _: Option<[usize; 4]>, _: Vec<AskedObject>) -> [usize; 4] {
            match *self {}
        }

        pub fn segment(
            &self,
            _: &Image,
            _: Vec<AskedObject>,
            _: Option<Budget>,
            _: CancelToken,
        ) -> Outcome<Segmentation> {
            match *self {}
        }
    }
}
