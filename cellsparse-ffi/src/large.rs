//! Images that are segmented part by part, with the functions of the caller on the caller's own thread.

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::mpsc::{self, Sender};
use std::thread;

use cellsparse_core::large::{LargeBlock, LargeProgress, LargeShape, LargeSink, LargeSummary, sink_for};
use cellsparse_core::raster::regions::{CallbackRegions, Extent, Region, RegionReader};
use cellsparse_core::raster::{ReadOptions, open_regions};
use cellsparse_core::{Error, Flow, Image, LabelImage, Model, Result};
use ndarray::Array3;
use serde_json::json;

use crate::boundary::{enter, panic_message};
use crate::handles::{Behind, read};
use crate::library::{Token, cellsparse_cancel};
use crate::model::{SharedModel, cellsparse_model};
use crate::options::{self, Parts};
use crate::pointers::{array, expect, optional_text, put_text};
use crate::status::{Failure, Outcome, cellsparse_status};
use crate::views::cellsparse_dtype;

/// Bytes of decoded strips and tiles of a file that are kept.
const KEPT_BYTES: usize = 128 << 20;

/// Rows and columns of an image at one resolution.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct cellsparse_extent {
    /// Rows, at least 1.
    pub height: usize,
    /// Columns, at least 1.
    pub width: usize,
}

/// A rectangle of pixels.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct cellsparse_region {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Writes the samples of a part of an image to `samples`, which has room for exactly its `size` bytes: row by row without
/// gaps, channels next to each other, in the type that the image states. Returns 0; anything else ends the call with
/// CELLSPARSE_STATUS_IMAGE. Regions lie within the level and may overlap.
pub type cellsparse_read_region = Option<
    unsafe extern "C" fn(
        userdata: *mut c_void,
        level: usize,
        region: *const cellsparse_region,
        samples: *mut c_void,
        size: usize,
    ) -> i32,
>;

/// Takes the labels of the next block, row by row without gaps: 0 background, 1 and up ids that count through the whole image.
/// They are valid during the call only. Blocks come row by row from the top left on, and every pixel of the level is in one of them.
/// Returns 0; anything else ends the call with CELLSPARSE_STATUS_IO.
pub type cellsparse_write_region =
    Option<unsafe extern "C" fn(userdata: *mut c_void, region: *const cellsparse_region, labels: *const i32) -> i32>;

/// Watches a segmentation by parts. Returns 0 to go on; anything else ends the call with CELLSPARSE_STATUS_CANCELLED.
pub type cellsparse_large_observer =
    Option<unsafe extern "C" fn(userdata: *mut c_void, progress: *const cellsparse_large_progress) -> i32>;

/// How far a segmentation by parts is; valid during the callback only.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct cellsparse_large_progress {
    /// What is being done, in this order: "network" (nearly all of the time), "objects", "output".
    pub phase: *const c_char,
    /// Parts done.
    pub done: u64,
    /// Parts in all.
    pub total: u64,
    /// Seconds since the run began.
    pub elapsed: f64,
    /// Estimated seconds until the phase ends.
    pub remaining: f64,
}

/// An image of which any part can be read.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct cellsparse_regions {
    /// Sizes of its resolutions, the largest first.
    pub levels: *const cellsparse_extent,
    /// Number of resolutions, at least 1.
    pub n_levels: usize,
    /// Channels of every part, at least 1.
    pub channels: usize,
    /// A cellsparse_dtype: U8, U16 or F32.
    pub dtype: u32,
    /// Micrometres per pixel of level 0, height and width; 0 where they are not known.
    pub pixel_size: [f64; 2],
    /// Gives the pixels.
    pub read: cellsparse_read_region,
}

/// Segments an image that need not fit into the memory, part by part, with the result of the whole.
///
/// The image is that of a file, `path` (TIFF of any size and kind, OME-Zarr folder, any other picture), or `regions`; the other one is NULL.
/// `options` is a JSON object, or NULL for the defaults: those of cellsparse_model_predict(), and level (0; a number, or micrometres
/// per pixel like "0.5um"), region (objects whose middle lies in it are kept: "left,top,width,height" in pixels of level 0, or
/// GeoJSON), skip_empty (true: parts in which nothing stands out are left out), folder (where finished parts are kept; none),
/// resume (false; true goes on from the parts in the folder), image (a text that tells the image from others, compared when a
/// run goes on), outputs (files to write, an array of paths whose endings say what: .ome.tif, .tif, .zarr labels; .geojson
/// outlines for QuPath; .csv measurements), outline and simplify (as of cellsparse_segmentation_outlines()).
///
/// `write`, `observer` and `userdata` may be NULL. All callbacks are called with `userdata` on the thread that called this
/// function, one at a time; they must not throw or jump out, and may raise cancel handles.
///
/// `json_out` takes a JSON object: objects (their number), shape (rows and columns of the level), pixel_size (micrometres of the
/// level, or null), notes (sentences that a user should know), was_finished (a run that goes on had nothing left to do). Free it
/// with cellsparse_string_free(). Only reads the model: many threads may predict with one model at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_model_predict_large(
    model: *const cellsparse_model,
    path: *const c_char,
    regions: Option<&cellsparse_regions>,
    options: *const c_char,
    cancel: *const cellsparse_cancel,
    write: cellsparse_write_region,
    observer: cellsparse_large_observer,
    userdata: *mut c_void,
    json_out: Option<&mut MaybeUninit<*const c_char>>,
) -> cellsparse_status {
    enter(|| {
        expect(&json_out, "json_out")?;
        let model = SharedModel::find(model)?;
        // SAFETY: the caller's promise about its texts.
        let (path, options) = unsafe { (optional_text(path, "path")?, optional_text(options, "options")?) };
        let parts = options::parts(options, Token::optional(cancel)?)?;
        let source = match (path, regions) {
            (Some(path), None) => Source::File(path.to_owned()),
            // SAFETY: the caller's promise about the levels.
            (None, Some(regions)) => Source::Caller(unsafe { Described::new(regions) }?),
            (None, None) => return Err(Failure::argument("path and regions are both NULL; give one of them")),
            (Some(_), Some(_)) => return Err(Failure::argument("path and regions are both given; one must be NULL")),
        };
        let caller = Caller { write, observer, userdata };
        let model = read(&model.0, SharedModel::NAME)?;
        let summary = caller.serve(&model, &source, parts)?;
        let told = json!({
            "objects": summary.objects,
            "shape": summary.shape,
            "pixel_size": summary.pixel_size,
            "notes": summary.notes,
            "was_finished": summary.was_finished,
        });
        put_text(json_out, told.to_string(), "json_out")
    })
}

/// Where pixels come from.
enum Source {
    File(String),
    Caller(Described),
}

/// What the caller says of an image.
struct Described {
    levels: Vec<Extent>,
    channels: usize,
    dtype: cellsparse_dtype,
    pixel_size: Option<[f64; 2]>,
    read: ReadRegion,
}

type ReadRegion = unsafe extern "C" fn(*mut c_void, usize, *const cellsparse_region, *mut c_void, usize) -> i32;

impl Described {
    /// # Safety
    /// `levels` is NULL or points to `n_levels` readable sizes.
    unsafe fn new(regions: &cellsparse_regions) -> Outcome<Self> {
        let read = regions.read.ok_or_else(|| Failure::null("the function read of the regions"))?;
        let known = [cellsparse_dtype::U8, cellsparse_dtype::U16, cellsparse_dtype::F32];
        let dtype = known.into_iter().find(|dtype| *dtype as u32 == regions.dtype).ok_or_else(|| {
            Failure::argument(format!(
                "regions have the dtype {}; images are CELLSPARSE_DTYPE_U8, _U16 or _F32 (1, 2, 3)",
                regions.dtype
            ))
        })?;
        let pixel_size = match regions.pixel_size {
            [0.0, 0.0] => None,
            sides if sides.iter().all(|side| side.is_finite() && *side > 0.0) => Some(sides),
            [height, width] => {
                return Err(Failure::argument(format!(
                    "pixel_size is {height} x {width} micrometres; give two positive numbers, or 0 and 0"
                )));
            }
        };
        // SAFETY: as this function's own contract.
        let levels = unsafe { array(regions.levels, regions.n_levels, "the levels of the regions") }?;
        let levels = levels.iter().map(|level| Extent { height: level.height, width: level.width }).collect();
        Ok(Self { levels, channels: regions.channels, dtype, pixel_size, read })
    }
}

/// What a run asks the thread of the caller for.
enum Ask {
    Read(Region, usize, Sender<Result<Image>>),
    Write(Region, LabelImage, Sender<Result<()>>),
    Tell(LargeProgress, Sender<Flow>),
}

/// Asks, and waits for the answer; `None` when nobody listens any more.
fn ask<T>(asks: &Sender<Ask>, question: impl FnOnce(Sender<T>) -> Ask) -> Option<T> {
    let (answer_out, answer) = mpsc::channel();
    asks.send(question(answer_out)).ok()?;
    answer.recv().ok()
}

/// Hands labels to the caller.
struct CallerSink(Sender<Ask>);

impl LargeSink for CallerSink {
    fn begin(&mut self, _: &LargeShape) -> Result<()> {
        Ok(())
    }

    fn block(&mut self, block: &LargeBlock<'_>) -> Result<()> {
        let labels = block.labels.as_standard_layout().into_owned();
        ask(&self.0, |answer| Ask::Write(block.region, labels, answer)).unwrap_or(Err(Error::Cancelled))
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The functions of the caller that are no part of an image.
struct Caller {
    write: cellsparse_write_region,
    observer: cellsparse_large_observer,
    userdata: *mut c_void,
}

impl Caller {
    /// Segments on a thread of its own, and answers it on this one.
    fn serve(&self, model: &Model, source: &Source, parts: Parts) -> Outcome<LargeSummary> {
        let (asks_out, asks) = mpsc::channel();
        let writes = self.write.is_some();
        thread::scope(|scope| {
            let work = move || run(model, source, parts, writes, &asks_out);
            let worker = thread::Builder::new().name("cellsparse-large".into()).spawn_scoped(scope, work);
            let worker = worker.map_err(|error| Failure::internal(format!("starting a thread: {error}")))?;
            for question in asks {
                // Who asked may be gone, which ends the run.
                match question {
                    Ask::Read(region, level, answer) => drop(answer.send(self.image(source, region, level))),
                    Ask::Write(region, labels, answer) => drop(answer.send(self.labels(region, &labels))),
                    Ask::Tell(event, answer) => drop(answer.send(self.progress(&event))),
                }
            }
            match worker.join() {
                Ok(result) => Ok(result?),
                Err(payload) => Err(Failure::internal(panic_message(&*payload))),
            }
        })
    }

    fn image(&self, source: &Source, region: Region, level: usize) -> Result<Image> {
        let Source::Caller(image) = source else {
            return Err(Error::Internal("the pixels of a file are not the caller's".into()));
        };
        match image.dtype {
            cellsparse_dtype::U8 => self.samples(image, region, level).map(Image::U8),
            cellsparse_dtype::U16 => self.samples(image, region, level).map(Image::U16),
            _ => self.samples(image, region, level).map(Image::F32),
        }
    }

    /// The samples of a part, of a type of which all bytes are values.
    fn samples<T: Copy + Default>(&self, image: &Described, region: Region, level: usize) -> Result<Array3<T>> {
        let too_large =
            || Error::Limit(format!("the part {region} of {} channels does not fit into the memory", image.channels));
        let pixels = region.height.checked_mul(region.width);
        let count = pixels.and_then(|pixels| pixels.checked_mul(image.channels)).ok_or_else(too_large)?;
        let mut samples = Vec::new();
        samples.try_reserve_exact(count).map_err(|_| too_large())?;
        samples.resize(count, T::default());
        let (told, size) = (told(region), size_of_val(samples.as_slice()));
        // SAFETY: the caller's promise about its function, which runs on the caller's thread and writes `size` bytes at most.
        let answer = unsafe { (image.read)(self.userdata, level, &told, samples.as_mut_ptr().cast(), size) };
        if answer != 0 {
            return Err(Error::Image(format!("the part {region} could not be read: its function answered {answer}")));
        }
        let shape = (region.height, region.width, image.channels);
        Array3::from_shape_vec(shape, samples).map_err(|error| Error::Internal(error.to_string()))
    }

    fn labels(&self, region: Region, labels: &LabelImage) -> Result<()> {
        let (Some(write), Some(values)) = (self.write, labels.as_slice()) else { return Ok(()) };
        // SAFETY: the caller's promise about its function, which runs on the caller's thread and reads that many values.
        match unsafe { write(self.userdata, &told(region), values.as_ptr()) } {
            0 => Ok(()),
            answer => Err(Error::io(
                "the labels",
                std::io::Error::other(format!("those {region} were not taken: the function answered {answer}")),
            )),
        }
    }

    fn progress(&self, event: &LargeProgress) -> Flow {
        let Some(observer) = self.observer else { return Flow::Continue };
        let phase = CString::new(event.phase.to_string()).unwrap_or_default();
        let progress = cellsparse_large_progress {
            phase: phase.as_ptr(),
            done: event.done as u64,
            total: event.total as u64,
            elapsed: event.elapsed.as_secs_f64(),
            remaining: event.remaining.as_secs_f64(),
        };
        // SAFETY: the caller's promise about its observer, which runs on the caller's thread.
        if unsafe { observer(self.userdata, &progress) } == 0 { Flow::Continue } else { Flow::Stop }
    }
}

fn told(region: Region) -> cellsparse_region {
    cellsparse_region { top: region.top, left: region.left, height: region.height, width: region.width }
}

impl Source {
    fn open(&self, asks: &Sender<Ask>) -> Result<Box<dyn RegionReader>> {
        match self {
            Source::File(path) => open_regions(path, &ReadOptions::default(), KEPT_BYTES),
            Source::Caller(image) => {
                let asks = asks.clone();
                let read = move |region: Region, level: usize| {
                    ask(&asks, |answer| Ask::Read(region, level, answer)).unwrap_or(Err(Error::Cancelled))
                };
                Ok(Box::new(CallbackRegions::new(image.levels.clone(), image.channels, image.pixel_size, read)?))
            }
        }
    }
}

/// The whole run; whoever answers the questions is on another thread.
fn run(model: &Model, source: &Source, parts: Parts, writes: bool, asks: &Sender<Ask>) -> Result<LargeSummary> {
    let reader = source.open(asks)?;
    let Parts { mut options, level, outputs, outlines } = parts;
    options.level = level.of(reader.as_ref())?;
    let mut sinks: Vec<Box<dyn LargeSink + '_>> = Vec::new();
    for path in outputs {
        sinks.push(sink_for(path, reader.as_ref(), options.level, &outlines)?);
    }
    if writes {
        sinks.push(Box::new(CallerSink(asks.clone())));
    }
    let mut list: Vec<&mut dyn LargeSink> = sinks.iter_mut().map(|sink| &mut **sink as &mut dyn LargeSink).collect();
    let mut observer =
        |event: &LargeProgress| ask(asks, |answer| Ask::Tell(event.clone(), answer)).unwrap_or(Flow::Stop);
    model.predict_large(reader.as_ref(), &options, &mut list, &mut observer)
}
