//! Models: made, loaded, saved, reset, asked, run.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};

use cellsparse_core::Model;
use cellsparse_core::model::TrainingSummary;

use crate::boundary::enter;
use crate::handles::{Behind, Table, read, write};
use crate::library::{Token, cellsparse_cancel};
use crate::options;
use crate::pointers::{expect, given, optional_text, put_text, text};
use crate::segmentation::{Found, cellsparse_segmentation};
use crate::status::{Failure, cellsparse_status};
use crate::views::cellsparse_image;

/// A segmentation network with its weights and everything needed to use it. Opaque.
pub struct cellsparse_model {
    _opaque: (),
}

/// A model, and what its last training told.
pub(crate) struct SharedModel(pub RwLock<Model>, pub Mutex<Option<TrainingSummary>>);

impl SharedModel {
    fn of(model: Model) -> Self {
        Self(RwLock::new(model), Mutex::default())
    }
}

impl Behind for SharedModel {
    type Token = cellsparse_model;
    const NAME: &'static str = "model";

    fn table() -> &'static Table<Self> {
        static TABLE: Table<SharedModel> = Table::new();
        &TABLE
    }
}

/// Makes an untrained model. `algorithm` is "stardist", "cellpose" or "elephant"; the initial weights are drawn from
/// `seed`.
///
/// `config` is a JSON object of the architecture, or NULL for the defaults: n_channels (1) for all; n_rays (32), grid
/// ([2, 2]), n_filter_base (32), n_depth (3), n_conv_per_depth (2), net_conv_after_unet (128), batch_norm (false), n_classes
/// (null) for StarDist; widths, diam_mean (30) for Cellpose; widths, residual (false) for ELEPHANT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_model_new(
    algorithm: *const c_char,
    config: *const c_char,
    seed: u64,
    model_out: Option<&mut MaybeUninit<*mut cellsparse_model>>,
) -> cellsparse_status {
    enter(|| {
        expect(&model_out, "model_out")?;
        // SAFETY: the caller's promise about its texts.
        let (algorithm, config) = unsafe { (text(algorithm, "algorithm")?, optional_text(config, "config")?) };
        let model = Model::new(options::architecture(algorithm, config)?, seed)?;
        SharedModel::of(model).publish(model_out, "model_out")
    })
}

/// Loads a model that cellsparse_model_save(), the command line or another language wrote. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_model_load(
    path: *const c_char,
    model_out: Option<&mut MaybeUninit<*mut cellsparse_model>>,
) -> cellsparse_status {
    enter(|| {
        expect(&model_out, "model_out")?;
        // SAFETY: the caller's promise about its texts.
        let model = Model::load(unsafe { text(path, "path") }?)?;
        SharedModel::of(model).publish(model_out, "model_out")
    })
}

/// Turns a model of one program into one of another. The content of `source` says what it is: a model of cellsparse, a model of
/// StarDist (folder, .zip, .h5 beside its config.json, package of bioimage.io, TF_SavedModel.zip or frozen .pb of TensorFlow), weights
/// of Cellpose 2 or 3 or elephant-core (PyTorch or safetensors). The ending of `target` says what it becomes: .safetensors (a model
/// of cellsparse), .pth (PyTorch), .onnx, .zip (package of bioimage.io); of networks of StarDist also no ending or a slash (folder of
/// its package), SavedModel.zip (TensorFlow, Fiji) and .pb (frozen graph of TensorFlow, QuPath). `config` is a JSON file with what
/// the source does not tell, and how it is written (docs/models.md: {"onnx": {"normalization": "inside"}} has the network scale
/// intensities itself), or NULL.
///
/// `notes_out` takes a JSON array of sentences that a user should know; free it with cellsparse_string_free(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_convert(
    source: *const c_char,
    target: *const c_char,
    config: *const c_char,
    notes_out: Option<&mut MaybeUninit<*const c_char>>,
) -> cellsparse_status {
    enter(|| {
        expect(&notes_out, "notes_out")?;
        // SAFETY: the caller's promise about its texts.
        let (source, target) = unsafe { (text(source, "source")?, text(target, "target")?) };
        // SAFETY: the same.
        let config = unsafe { optional_text(config, "config") }?;
        let notes = cellsparse_core::model::convert(source, target, config.map(Path::new))?;
        put_text(notes_out, serde_json::to_string(&notes).map_err(Failure::internal)?, "notes_out")
    })
}

/// Writes the model to one file, atomically: the file is the old one or the new one, never half. Only reads the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_model_save(
    model: *const cellsparse_model,
    path: *const c_char,
) -> cellsparse_status {
    enter(|| {
        let model = SharedModel::find(model)?;
        // SAFETY: the caller's promise about its texts.
        let path = unsafe { text(path, "path") }?;
        Ok(read(&model.0, SharedModel::NAME)?.save(path)?)
    })
}

/// Forgets everything learned: new initial weights from `seed`, default thresholds, no history.
///
/// Changes the model: it needs it alone; any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_model_reset(model: *mut cellsparse_model, seed: u64) -> cellsparse_status {
    enter(|| {
        let model = SharedModel::find(model)?;
        write(&model.0, SharedModel::NAME)?.reset(seed);
        Ok(())
    })
}

/// What can be said about a model without running it, as a JSON object: algorithm, config, parameters, normalization,
/// thresholds, steps, loss, resumable, pixel_size (micrometres, height and width, of the training images, or null),
/// cell_diameter (median of the drawn cells, in their pixels) and cell_diameter_um. Free the text with cellsparse_string_free(). Only reads the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_model_info(
    model: *const cellsparse_model,
    json_out: Option<&mut MaybeUninit<*const c_char>>,
) -> cellsparse_status {
    enter(|| {
        expect(&json_out, "json_out")?;
        let model = SharedModel::find(model)?;
        let info = read(&model.0, SharedModel::NAME)?.info();
        put_text(json_out, serde_json::to_string(&info).map_err(Failure::internal)?, "json_out")
    })
}

/// Losses and learning rates of all trainings of a model, as a JSON object of arrays: steps, loss, losses, learning_rate,
/// validation_steps, validation_loss. Free the text with cellsparse_string_free(). Only reads the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_model_history(
    model: *const cellsparse_model,
    json_out: Option<&mut MaybeUninit<*const c_char>>,
) -> cellsparse_status {
    enter(|| {
        expect(&json_out, "json_out")?;
        let model = SharedModel::find(model)?;
        let history = read(&model.0, SharedModel::NAME)?.history().clone();
        put_text(json_out, serde_json::to_string(&history).map_err(Failure::internal)?, "json_out")
    })
}

/// What the last training of a model by this handle did and what a user should know of it, as a JSON object: steps, seconds,
/// seconds_per_step, loss, device, precision, stopped, begun ("random", "starter" or "model": what it began with), kept ("trained", or
/// "start" when the weights before it segment what was drawn better and were kept), notes (an array of sentences); null when
/// there was none. Free the text with cellsparse_string_free(). Only reads the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_model_last_training(
    model: *const cellsparse_model,
    json_out: Option<&mut MaybeUninit<*const c_char>>,
) -> cellsparse_status {
    enter(|| {
        expect(&json_out, "json_out")?;
        let model = SharedModel::find(model)?;
        let summary = model.1.lock().unwrap_or_else(PoisonError::into_inner).clone();
        put_text(json_out, serde_json::to_string(&summary).map_err(Failure::internal)?, "json_out")
    })
}

/// Segments an image. The result does not depend on the number of threads.
///
/// `options` is a JSON object, or NULL for what is stored with the model: prob_thresh, nms_thresh (StarDist), flow_threshold,
/// cellprob_threshold, diameter, augment (Cellpose), prob_thresh, postprocess (ELEPHANT), min_area (0), tile,
/// normalized (false; true takes intensities as they are), pixel_size (micrometres, one number or [height, width]: an image
/// whose pixels have another size than those of the training is seen scaled, where that one is known), rescale (true; false takes
/// it as it is, also by Cellpose, which else sees an image by the size of its cells where that of the pixels or a diameter is
/// not given), device ("auto"), precision ("auto", "f32", "tf32" or "bf16"), threads, memory (bytes, or a text like "4G"; half of
/// what is free). `cancel` may be NULL; raised, it ends the call with CELLSPARSE_STATUS_CANCELLED. Work that would take more
/// memory than allowed ends with CELLSPARSE_STATUS_LIMIT before it begins.
///
/// Only reads the model: many threads may predict with one model at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_model_predict(
    model: *const cellsparse_model,
    image: Option<&cellsparse_image>,
    options: *const c_char,
    cancel: *const cellsparse_cancel,
    segmentation_out: Option<&mut MaybeUninit<*mut cellsparse_segmentation>>,
) -> cellsparse_status {
    enter(|| {
        expect(&segmentation_out, "segmentation_out")?;
        let model = SharedModel::find(model)?;
        let image = given(image, "image")?;
        // SAFETY: the caller's promise about its texts.
        let options = options::predict(unsafe { optional_text(options, "options") }?, Token::optional(cancel)?)?;
        // SAFETY: the caller's promise about the buffer of the image.
        let image = unsafe { image.to_image() }?;
        let found = read(&model.0, SharedModel::NAME)?.predict(&image, &options)?;
        Found(found).publish(segmentation_out, "segmentation_out")
    })
}

/// Frees a model. Any thread; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_model_free(model: *mut cellsparse_model) -> cellsparse_status {
    enter(|| SharedModel::free(model))
}
