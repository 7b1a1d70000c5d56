//! Random sequences of calls of the C library, within its contract: pointers are NULL or point to what their documentation
//! says. Handles, sizes, strides, constants and texts are anything.

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr;

use cellsparse::{
    cellsparse_cancel, cellsparse_dataset, cellsparse_image, cellsparse_labels, cellsparse_model, cellsparse_outlines,
    cellsparse_polygon, cellsparse_progress, cellsparse_scores, cellsparse_segmentation, cellsparse_status,
};
use cellsparse_core::random::Random;

use crate::fuzz;
use crate::mutation::mutated;

const SIDE: usize = 32;

/// Calls in a sequence, at most.
const CALLS: usize = 40;

const CONFIGS: [&str; 4] = [
    r#"{"n_rays": 8, "n_filter_base": 2, "n_depth": 1, "net_conv_after_unet": 4}"#,
    r#"{"n_rays": 4, "n_filter_base": 2, "n_depth": 1, "net_conv_after_unet": 4, "n_classes": 2, "n_channels": 3}"#,
    r#"{"widths": [2, 2]}"#,
    r#"{"widths": [2, 4], "n_channels": 2}"#,
];

const TRAININGS: [&str; 3] = [
    r#"{"steps": 1, "batch_size": 1, "patch_size": 16, "threads": 1, "device": "cpu", "memory": "64M"}"#,
    r#"{"steps": 2, "batch_size": 2, "patch_size": 32, "threads": 2, "time_budget": 0.1, "memory": "64M"}"#,
    r#"{"steps": 1, "batch_size": 1, "patch_size": 16, "resume": true, "preset": "reference", "memory": "64M"}"#,
];

const PREDICTIONS: [&str; 3] = [
    r#"{"threads": 1, "memory": "64M", "prob_thresh": 0.01, "nms_thresh": 0.9}"#,
    r#"{"memory": "64M", "tile": 32, "min_area": 3}"#,
    r#"{"memory": "16M", "diameter": 20, "augment": true, "normalized": true}"#,
];

const OUTLINES: [&str; 3] =
    [r#"{"outline": "literal"}"#, r#"{"outline": "exact", "simplify": 1.5}"#, r#"{"min_area": 3}"#];

/// Handles of one type: those that live, and those that were given back.
struct Handles<T> {
    live: Vec<*mut T>,
    dead: Vec<*mut T>,
}

impl<T> Handles<T> {
    fn new() -> Self {
        Self { live: Vec::new(), dead: Vec::new() }
    }

    /// A handle, mostly a living one, and whether it is one.
    fn pick(&self, random: &mut Random, stranger: usize) -> (*mut T, bool) {
        match random.below(12) {
            0 => (ptr::null_mut(), false),
            1 if !self.dead.is_empty() => (self.dead[random.below(self.dead.len())], false),
            // A living handle of another type, or an even number, which is never one.
            2 if !self.live.iter().any(|handle| handle.addr() == stranger) => {
                (ptr::without_provenance_mut(stranger), false)
            }
            3 => (ptr::without_provenance_mut(random.bits() as usize & !1), false),
            _ if !self.live.is_empty() => (self.live[random.below(self.live.len())], true),
            _ => (ptr::null_mut(), false),
        }
    }

    fn any(&self) -> usize {
        self.live.first().map_or(0, |handle| handle.addr())
    }

    /// Gives a handle back, and a second time.
    fn free(
        &mut self,
        random: &mut Random,
        stranger: usize,
        give_back: unsafe extern "C" fn(*mut T) -> cellsparse_status,
    ) -> Result<(), String> {
        let (handle, lives) = self.pick(random, stranger);
        // SAFETY: handles may be anything.
        let status = unsafe { give_back(handle) };
        if lives {
            self.live.retain(|other| *other != handle);
            self.dead.push(handle);
        }
        let wanted = lives || handle.is_null();
        if wanted != (status == cellsparse_status::Ok) {
            return Err(format!("{status:?} for a handle that {}", if lives { "lives" } else { "does not live" }));
        }
        // SAFETY: as above.
        let again = unsafe { give_back(handle) };
        if !handle.is_null() && again != cellsparse_status::InvalidHandle {
            return Err(format!("{again:?} for a handle that was given back"));
        }
        Ok(())
    }
}

/// Everything that a sequence of calls has made.
struct Caller<'a> {
    random: &'a mut Random,
    folder: &'a Path,
    models: Handles<cellsparse_model>,
    datasets: Handles<cellsparse_dataset>,
    cancels: Handles<cellsparse_cancel>,
    found: Handles<cellsparse_segmentation>,
    outlines: Handles<cellsparse_outlines>,
    /// Memory that images and labels are views of.
    pixels: Vec<u8>,
    done: usize,
}

/// A text output, taken and given back when the call succeeded, untouched otherwise.
fn text_of(call: impl FnOnce(Option<&mut MaybeUninit<*const c_char>>) -> cellsparse_status) -> Result<bool, String> {
    let untouched = c"untouched".as_ptr();
    let mut text = MaybeUninit::new(untouched);
    let status = call(Some(&mut text));
    // SAFETY: it was initialised, and is written only with a valid address.
    let text = unsafe { text.assume_init() };
    match (status == cellsparse_status::Ok, text == untouched) {
        (true, false) => {
            // SAFETY: a text of the library, given back once; the second time it is refused, since no text was made meanwhile.
            let freed = unsafe { [cellsparse::cellsparse_string_free(text), cellsparse::cellsparse_string_free(text)] };
            match freed {
                [cellsparse_status::Ok, cellsparse_status::InvalidHandle] => Ok(true),
                other => Err(format!("a text was given back with {other:?}")),
            }
        }
        (false, true) => Ok(false),
        (ok, _) => Err(format!("success is {ok} and the output was {}written", if ok { "not " } else { "" })),
    }
}

/// A new handle, or nothing.
fn handle_of<T>(
    handles: &mut Handles<T>,
    call: impl FnOnce(Option<&mut MaybeUninit<*mut T>>) -> cellsparse_status,
) -> Result<bool, String> {
    let mut handle = MaybeUninit::new(ptr::null_mut());
    let status = call(Some(&mut handle));
    // SAFETY: it was initialised.
    let handle = unsafe { handle.assume_init() };
    match (status == cellsparse_status::Ok, handle.is_null()) {
        (true, false) => handles.live.push(handle),
        (false, true) => {}
        (ok, _) => return Err(format!("success is {ok} and the handle is {handle:?}")),
    }
    Ok(status == cellsparse_status::Ok)
}

unsafe extern "C" fn watch(userdata: *mut c_void, progress: *const cellsparse_progress) -> i32 {
    // SAFETY: the library hands out an event that lives during the call, and the number that it was given.
    let (step, most) = unsafe { ((*progress).step, *userdata.cast::<u64>()) };
    i32::from(step >= most)
}

impl Caller<'_> {
    /// A text: one of these, one with changes, NULL, or none that is UTF-8.
    fn text(&mut self, usual: &[&str]) -> Option<CString> {
        let seeds: Vec<Vec<u8>> = usual.iter().map(|text| text.as_bytes().to_vec()).collect();
        let bytes = match self.random.below(10) {
            0 => return None,
            1..=3 => mutated(self.random, &seeds),
            _ => seeds[self.random.below(seeds.len())].clone(),
        };
        CString::new(bytes.into_iter().filter(|byte| *byte != 0).collect::<Vec<u8>>()).ok()
    }

    fn size(&mut self, usual: usize) -> usize {
        match self.random.below(12) {
            0 => [0, 1, usize::MAX, 1 << 40, usize::MAX / 8, 31][self.random.below(6)],
            1 => self.random.below(2 * usual + 2),
            _ => usual,
        }
    }

    fn stride(&mut self, usual: isize) -> isize {
        match self.random.below(12) {
            0 => [0, -1, 1, isize::MIN, isize::MAX, -4][self.random.below(6)],
            1 => self.random.below(200) as isize - 100,
            _ => usual,
        }
    }

    fn image(&mut self) -> cellsparse_image {
        let channels = 1 + self.random.below(3);
        let width = if self.random.chance(0.8) { SIDE } else { 1 + self.random.below(SIDE) };
        let plain = self.random.chance(0.5);
        let stride = |caller: &mut Self, usual: usize| if plain { 0 } else { caller.stride(usual as isize) };
        let mut image = cellsparse_image {
            data: self.pixels.as_ptr().cast(),
            size: self.pixels.len(),
            offset: self.size(0),
            dtype: self.size(1) as u32,
            height: self.size(SIDE),
            width: self.size(width),
            channels: self.size(channels),
            row_stride: stride(self, width * channels),
            column_stride: stride(self, channels),
            channel_stride: stride(self, 1),
        };
        if self.random.chance(0.02) {
            image.data = ptr::null();
        }
        image
    }

    fn labels(&mut self) -> cellsparse_labels {
        let plain = self.random.chance(0.5);
        let mut labels = cellsparse_labels {
            data: self.pixels.as_ptr().cast(),
            size: self.pixels.len(),
            offset: self.size(0),
            dtype: self.size(1) as u32,
            encoding: self.random.below(5) as u32,
            height: self.size(SIDE),
            width: self.size(SIDE),
            row_stride: if plain { 0 } else { self.stride(SIDE as isize) },
            column_stride: if plain { 0 } else { self.stride(1) },
        };
        if self.random.chance(0.02) {
            labels.data = ptr::null();
        }
        labels
    }

    /// Points of polygons, wild ones among them.
    fn points(&mut self, count: usize) -> Vec<f64> {
        let wild = [f64::NAN, f64::INFINITY, -1e300, 1e9, -0.0, 1e-320];
        let mut value = || match self.random.below(30) {
            0 => wild[self.random.below(wild.len())],
            _ => self.random.uniform(-5.0, SIDE as f64 + 5.0),
        };
        (0..2 * count).map(|_| value()).collect()
    }

    fn stranger(&mut self) -> usize {
        [self.models.any(), self.datasets.any(), self.cancels.any(), self.found.any()][self.random.below(4)]
    }

    /// One call, and whether it succeeded.
    fn call(&mut self) -> Result<bool, String> {
        let which = self.random.below(26);
        match which {
            0..=2 => self.make(which),
            3..=5 => self.annotate(which),
            6..=8 => self.learn(which),
            9..=12 => self.predict(),
            13..=17 => self.look(which),
            18..=20 => self.trace(which),
            21 => self.files(),
            22 => self.score(),
            23 => self.raise(),
            _ => self.give_back(),
        }
    }

    fn make(&mut self, which: usize) -> Result<bool, String> {
        match which {
            0 => {
                let (name, config) = (self.text(&["stardist", "cellpose", "elephant"]), self.text(&CONFIGS));
                let seed = self.random.bits();
                // SAFETY: texts end with NUL and outlive the call.
                handle_of(&mut self.models, |out| unsafe {
                    cellsparse::cellsparse_model_new(address(&name), address(&config), seed, out)
                })
            }
            // SAFETY: the output is there.
            1 => handle_of(&mut self.datasets, |out| unsafe { cellsparse::cellsparse_dataset_new(out) }),
            // SAFETY: the output is there.
            _ => handle_of(&mut self.cancels, |out| unsafe { cellsparse::cellsparse_cancel_new(out) }),
        }
    }

    fn annotate(&mut self, which: usize) -> Result<bool, String> {
        let stranger = self.stranger();
        let (data, lives) = self.datasets.pick(self.random, stranger);
        let image = self.image();
        let status = match which {
            3 => {
                let labels = self.labels();
                // SAFETY: views of memory that is as long as they say.
                unsafe { cellsparse::cellsparse_dataset_add(data, Some(&image), Some(&labels)) }
            }
            4 => {
                let count = self.random.below(3);
                let points: Vec<Vec<f64>> = (0..count).map(|_| self.points(6)).collect();
                let lengths = [self.size(3), self.size(3)];
                let rings = self.random.chance(0.3);
                let polygons: Vec<cellsparse_polygon> = points
                    .iter()
                    .map(|points| cellsparse_polygon {
                        points: points.as_ptr(),
                        n_points: points.len() / 2,
                        ring_lengths: if rings { lengths.as_ptr() } else { ptr::null() },
                        n_rings: if rings { lengths.len() } else { 0 },
                        kind: 1 + (points.len() as u32 + u32::from(rings)) % 3,
                    })
                    .collect();
                // SAFETY: as many polygons, rings and points as they say.
                unsafe {
                    cellsparse::cellsparse_dataset_add_polygons(data, Some(&image), polygons.as_ptr(), polygons.len())
                }
            }
            _ => {
                let (ids, classes) = ([1, 2, self.random.bits() as i32], [0, 1, self.random.bits() as u32 % 4]);
                let index = self.size(0);
                // SAFETY: three numbers each.
                unsafe {
                    cellsparse::cellsparse_dataset_set_classes(data, index, ids.as_ptr(), classes.as_ptr(), 3);
                    let size = self.random.uniform(-0.1, 1.0);
                    cellsparse::cellsparse_dataset_set_pixel_size(data, index, size, size)
                }
            }
        };
        only_living(lives, status)?;
        if !lives {
            return Ok(false);
        }
        // SAFETY: the output is there.
        text_of(|out| unsafe { cellsparse::cellsparse_dataset_advice(data, out) })
    }

    fn learn(&mut self, which: usize) -> Result<bool, String> {
        let stranger = self.stranger();
        let (model, lives) = self.models.pick(self.random, stranger);
        let (data, drawn) = self.datasets.pick(self.random, stranger);
        let (other, checks) = self.datasets.pick(self.random, stranger);
        let (other, checks) = if self.random.chance(0.7) { (ptr::null_mut(), true) } else { (other, checks) };
        let (cancel, hears) = self.cancels.pick(self.random, stranger);
        let options = self.text(&TRAININGS);
        if which == 8 {
            // NULL would be a training of the usual length.
            let options = options.unwrap_or_else(|| CString::from(c"{}"));
            // SAFETY: the text ends with NUL, the output is there.
            return text_of(|out| unsafe {
                match lives {
                    true => cellsparse::cellsparse_model_last_training(model, out),
                    false => cellsparse::cellsparse_choose_algorithm(ptr::null(), options.as_ptr(), cancel, out),
                }
            });
        }
        // Enough steps for a changed number of them.
        let mut most = 2_u64;
        // SAFETY: the text ends with NUL; the observer reads the number that it is given.
        let status = unsafe {
            cellsparse::cellsparse_model_train(
                model,
                data,
                other,
                address(&options),
                cancel,
                Some(watch),
                (&raw mut most).cast(),
                None,
            )
        };
        only_living(lives && drawn && (checks || other.is_null()) && (hears || cancel.is_null()), status)
    }

    fn predict(&mut self) -> Result<bool, String> {
        let stranger = self.stranger();
        let (model, lives) = self.models.pick(self.random, stranger);
        let (cancel, hears) = self.cancels.pick(self.random, stranger);
        let (image, options) = (self.image(), self.text(&PREDICTIONS));
        let mut status = cellsparse_status::Ok;
        // SAFETY: the image is a view of memory that is as long as it says.
        let done = handle_of(&mut self.found, |out| unsafe {
            status = cellsparse::cellsparse_model_predict(model, Some(&image), address(&options), cancel, out);
            status
        });
        only_living(lives && (hears || cancel.is_null()), status)?;
        done
    }

    fn look(&mut self, which: usize) -> Result<bool, String> {
        let stranger = self.stranger();
        let (found, lives) = self.found.pick(self.random, stranger);
        let options = self.text(&OUTLINES);
        // SAFETY: outputs have as many places as is said.
        let status = unsafe {
            match which {
                13 => {
                    let capacity = self.size(SIDE * SIDE).min(1 << 16);
                    let mut labels = vec![-7; capacity + 1];
                    let status = cellsparse::cellsparse_segmentation_labels(found, labels.as_mut_ptr(), capacity);
                    if labels[capacity] != -7 {
                        return Err("written behind the end of the labels".into());
                    }
                    status
                }
                14 => {
                    let (index, capacity) = (self.size(0), self.size(16).min(1 << 12));
                    let mut points = vec![-7.0; capacity + 1];
                    let status =
                        cellsparse::cellsparse_segmentation_polygon(found, index, points.as_mut_ptr(), capacity);
                    if points[capacity] != -7.0 {
                        return Err("written behind the end of the points".into());
                    }
                    status
                }
                15 => {
                    return handle_of(&mut self.outlines, |out| {
                        cellsparse::cellsparse_segmentation_outlines(found, address(&options), out)
                    });
                }
                16 => {
                    return text_of(|out| cellsparse::cellsparse_segmentation_geojson(found, address(&options), out));
                }
                _ => return text_of(|out| cellsparse::cellsparse_segmentation_notes(found, out)),
            }
        };
        only_living(lives, status)
    }

    fn trace(&mut self, which: usize) -> Result<bool, String> {
        let (labels, options) = (self.labels(), self.text(&OUTLINES));
        if which == 18 {
            // SAFETY: the labels are a view of memory that is as long as they say.
            return handle_of(&mut self.outlines, |out| unsafe {
                cellsparse::cellsparse_labels_outlines(Some(&labels), address(&options), out)
            });
        }
        if which == 19 {
            // SAFETY: as above.
            return text_of(|out| unsafe {
                cellsparse::cellsparse_labels_geojson(Some(&labels), address(&options), out)
            });
        }
        let stranger = self.stranger();
        let (outlines, lives) = self.outlines.pick(self.random, stranger);
        let (mut rings, mut values) = (MaybeUninit::new(0), MaybeUninit::new(0));
        // SAFETY: outputs are there and were initialised; the copies have as many places as is said.
        let status = unsafe {
            let status = cellsparse::cellsparse_outlines_size(outlines, Some(&mut rings), Some(&mut values));
            let (rings, values) = (self.size(rings.assume_init()), self.size(2 * values.assume_init()));
            let (rings, values) = (rings.min(1 << 16), values.min(1 << 18));
            let mut ring: Vec<MaybeUninit<cellsparse::cellsparse_ring>> = vec![MaybeUninit::uninit(); rings];
            let mut points = vec![0.0; values];
            let copied = cellsparse::cellsparse_outlines_copy(
                outlines,
                ring.as_mut_ptr().cast(),
                rings,
                points.as_mut_ptr(),
                values,
            );
            only_living(lives, copied)?;
            status
        };
        only_living(lives, status)
    }

    fn files(&mut self) -> Result<bool, String> {
        let stranger = self.stranger();
        let (model, lives) = self.models.pick(self.random, stranger);
        let path = self.folder.join("m.safetensors");
        let path = CString::new(path.to_string_lossy().into_owned()).map_err(|error| error.to_string())?;
        // SAFETY: texts end with NUL, outputs are there.
        unsafe {
            let saved = cellsparse::cellsparse_model_save(model, path.as_ptr());
            only_living(lives, saved)?;
            if lives {
                text_of(|out| cellsparse::cellsparse_model_info(model, out))?;
                text_of(|out| cellsparse::cellsparse_model_history(model, out))?;
            }
            if saved != cellsparse_status::Ok {
                return Ok(false);
            }
            match handle_of(&mut self.models, |out| cellsparse::cellsparse_model_load(path.as_ptr(), out))? {
                true => Ok(true),
                false => Err("what was saved cannot be loaded".into()),
            }
        }
    }

    fn score(&mut self) -> Result<bool, String> {
        let (truth, found) = (self.labels(), self.labels());
        let threshold = self.random.uniform(-0.2, 1.2);
        let mut scores = MaybeUninit::<cellsparse_scores>::uninit();
        let mut painted = vec![0; SIDE * SIDE];
        let points = self.points(5);
        let polygon =
            cellsparse_polygon { points: points.as_ptr(), n_points: 5, ring_lengths: ptr::null(), n_rings: 0, kind: 1 };
        let [height, width] = [self.size(SIDE), self.size(SIDE)];
        // SAFETY: views of memory that is as long as they say, and room for as many labels as is said.
        let status = unsafe {
            cellsparse::cellsparse_polygons_to_labels(
                &raw const polygon,
                1,
                height,
                width,
                painted.as_mut_ptr(),
                painted.len(),
            );
            cellsparse::cellsparse_matching(Some(&truth), Some(&found), threshold, Some(&mut scores))
        };
        Ok(status == cellsparse_status::Ok)
    }

    fn raise(&mut self) -> Result<bool, String> {
        let stranger = self.stranger();
        let (cancel, lives) = self.cancels.pick(self.random, stranger);
        let mut raised = MaybeUninit::new(-1);
        // SAFETY: the output is there and was initialised.
        let (status, asked, raised) = unsafe {
            let status = cellsparse::cellsparse_cancel_raise(cancel);
            let asked = cellsparse::cellsparse_cancel_is_raised(cancel, Some(&mut raised));
            (status, asked, raised.assume_init())
        };
        if status != asked || (status == cellsparse_status::Ok) != (raised == 1) {
            return Err(format!("raised with {status:?}, asked with {asked:?}, which said {raised}"));
        }
        only_living(lives, status)
    }

    fn give_back(&mut self) -> Result<bool, String> {
        let stranger = self.stranger();
        let random = &mut *self.random;
        match random.below(5) {
            0 => self.models.free(random, stranger, cellsparse::cellsparse_model_free),
            1 => self.datasets.free(random, stranger, cellsparse::cellsparse_dataset_free),
            2 => self.cancels.free(random, stranger, cellsparse::cellsparse_cancel_free),
            3 => self.found.free(random, stranger, cellsparse::cellsparse_segmentation_free),
            _ => self.outlines.free(random, stranger, cellsparse::cellsparse_outlines_free),
        }?;
        Ok(true)
    }

    /// Gives everything back.
    fn end(&mut self) {
        // SAFETY: living handles, each once.
        unsafe {
            for handle in self.models.live.drain(..) {
                cellsparse::cellsparse_model_free(handle);
            }
            for handle in self.datasets.live.drain(..) {
                cellsparse::cellsparse_dataset_free(handle);
            }
            for handle in self.cancels.live.drain(..) {
                cellsparse::cellsparse_cancel_free(handle);
            }
            for handle in self.found.live.drain(..) {
                cellsparse::cellsparse_segmentation_free(handle);
            }
            for handle in self.outlines.live.drain(..) {
                cellsparse::cellsparse_outlines_free(handle);
            }
        }
    }
}

fn address(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(ptr::null(), |text| text.as_ptr())
}

/// A call with a handle that does not live must not succeed, and no call may find a defect of the library.
fn only_living(lives: bool, status: cellsparse_status) -> Result<bool, String> {
    match status {
        cellsparse_status::Internal => Err("an internal error".into()),
        cellsparse_status::Ok if !lives => Err("success with a handle that does not live".into()),
        status => Ok(status == cellsparse_status::Ok),
    }
}

fn handles_that_live() -> usize {
    let mut count = MaybeUninit::new(usize::MAX);
    // SAFETY: the output is there and was initialised.
    unsafe {
        cellsparse::cellsparse_live_handles(Some(&mut count));
        count.assume_init()
    }
}

#[test]
fn sequences_of_calls_are_answered_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fuzz("C calls", 150, |random| {
        let pixels = (0..SIDE * SIDE * 12).map(|at| (at / 5 % 4) as u8 + random.below(3) as u8).collect();
        let mut caller = Caller {
            folder: folder.path(),
            models: Handles::new(),
            datasets: Handles::new(),
            cancels: Handles::new(),
            found: Handles::new(),
            outlines: Handles::new(),
            pixels,
            done: 0,
            random,
        };
        for _ in 0..3 {
            (0..3).try_for_each(|which| caller.make(which).map(drop))?;
        }
        for _ in 0..caller.random.below(CALLS) {
            caller.done += usize::from(caller.call()?);
        }
        caller.end();
        match handles_that_live() {
            0 => Ok(caller.done > 3),
            left => Err(format!("{left} handles are left")),
        }
    });
}
