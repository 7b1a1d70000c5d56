//! Segmentation by parts, with pixels, labels and progress that pass through Java.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::slice;

use cellsparse::*;
use jni::errors::Error;
use jni::objects::{JByteArray, JClass, JDoubleArray, JIntArray, JObject, JString, JThrowable};
use jni::refs::Global;
use jni::sys::{jboolean, jint, jlong};
use jni::{Env, EnvUnowned, JValue, Outcome as Ended, jni_mangle, jni_sig, jni_str};

use crate::bridge::{Outcome, c, doubles, enter, ints, produce_text, refuse, size as size_of, text, token};

#[jni_mangle("io.github.cellsparse.Native")]
pub fn model_predict_large<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    model: jlong,
    path: JString<'local>,
    size: JIntArray<'local>,
    pixel_size: JDoubleArray<'local>,
    options: JString<'local>,
    cancel: jlong,
    writes: jboolean,
    parts: JObject<'local>,
) -> JString<'local> {
    enter(env, &class, |env| {
        let options = text(env, &options)?;
        let path = if path.is_null() { None } else { Some(text(env, &path)?) };
        let level = if size.is_null() { None } else { Some(described(env, &size)?) };
        let sides: [f64; 2] =
            doubles(env, &pixel_size)?.try_into().map_err(|_| refuse("a pixel size has two sides"))?;
        let regions = level.as_ref().map(|(extent, channels, dtype)| cellsparse_regions {
            levels: extent,
            n_levels: 1,
            channels: *channels,
            dtype: *dtype,
            pixel_size: sides,
            read: Some(on_read),
        });
        let mut relay = Relay { env: env.get_raw(), parts: &parts, thrown: None };
        let userdata = (&raw mut relay).cast::<c_void>();
        let write: cellsparse_write_region = if writes { Some(on_write) } else { None };
        let path = path.as_ref().map_or(ptr::null(), |path| path.as_ptr());
        let (model, cancel, regions) = (token(model), token(cancel), regions.as_ref());
        let told = produce_text(env, |out| {
            c!(cellsparse_model_predict_large(
                model,
                path,
                regions,
                options.as_ptr(),
                cancel,
                write,
                Some(on_progress),
                userdata,
                out
            ))
        });
        if let Some(thrown) = relay.thrown.take() {
            env.throw(&*thrown)?;
        }
        told
    })
}

/// Size, channels and sample type of an image.
fn described(env: &Env<'_>, size: &JIntArray<'_>) -> Outcome<(cellsparse_extent, usize, u32)> {
    let [height, width, channels, dtype]: [jint; 4] =
        ints(env, size)?.try_into().map_err(|_| refuse("an image is described by four numbers"))?;
    let extent = cellsparse_extent { height: size_of(height)?, width: size_of(width)? };
    Ok((extent, size_of(channels)?, u32::try_from(dtype).unwrap_or(0)))
}

/// What the callbacks need to reach those of Java. All run on the thread of the native method.
struct Relay<'a, 'local> {
    env: *mut jni::sys::JNIEnv,
    parts: &'a JObject<'local>,
    /// What they threw first.
    thrown: Option<Global<JThrowable<'static>>>,
}

/// Runs the body of a callback; whether it succeeded. An exception ends the segmentation.
///
/// # Safety
/// `userdata` is the relay of the native method that runs on this very thread.
unsafe fn relayed(
    userdata: *mut c_void,
    body: impl FnOnce(&mut Env<'_>, &JObject<'_>) -> Result<bool, Error>,
) -> Option<bool> {
    // SAFETY: as this function's own contract; nobody else uses the relay meanwhile.
    let relay = unsafe { &mut *userdata.cast::<Relay<'_, '_>>() };
    // SAFETY: the environment is that of the native method on this very thread, which lasts longer.
    let mut env = unsafe { EnvUnowned::from_raw(relay.env) };
    let (parts, thrown) = (relay.parts, &mut relay.thrown);
    let ended = env.with_env(|env| -> Result<bool, Error> {
        let answer = env.with_local_frame(16, |env| body(env, parts));
        if answer.is_err()
            && let Some(exception) = env.exception_occurred()
        {
            env.exception_clear();
            if thrown.is_none() {
                *thrown = Some(env.new_global_ref(exception)?);
            }
        }
        answer
    });
    match ended.into_outcome() {
        Ended::Ok(answer) => Some(answer),
        Ended::Err(_) | Ended::Panic(_) => None,
    }
}

/// Row, column, height and width for Java.
fn place(region: &cellsparse_region) -> Option<[JValue<'static>; 4]> {
    let numbers = [region.top, region.left, region.height, region.width].map(|number| jint::try_from(number).ok());
    let [Some(top), Some(left), Some(height), Some(width)] = numbers else { return None };
    Some([JValue::Int(top), JValue::Int(left), JValue::Int(height), JValue::Int(width)])
}

unsafe extern "C" fn on_read(
    userdata: *mut c_void,
    level: usize,
    region: *const cellsparse_region,
    samples: *mut c_void,
    size: usize,
) -> i32 {
    // SAFETY: a region is valid during the callback.
    let region = unsafe { &*region };
    // SAFETY: the library hands back the relay of the method above.
    let read = unsafe {
        relayed(userdata, |env, parts| {
            let (Some([top, left, height, width]), Ok(level)) = (place(region), jint::try_from(level)) else {
                return Ok(false);
            };
            let arguments = [JValue::Int(level), top, left, height, width];
            let bytes = env.call_method(parts, jni_str!("read"), jni_sig!("(IIIII)[B"), &arguments)?.l()?;
            let bytes = JByteArray::cast_local(env, bytes)?;
            if bytes.is_null() || bytes.len(env)? != size {
                return Ok(false);
            }
            // SAFETY: the library gives room for `size` bytes, which nothing else uses during the callback.
            let room = slice::from_raw_parts_mut(samples.cast::<i8>(), size);
            bytes.get_region(env, 0, room)?;
            Ok(true)
        })
    };
    if read == Some(true) { 0 } else { 1 }
}

unsafe extern "C" fn on_write(userdata: *mut c_void, region: *const cellsparse_region, labels: *const i32) -> i32 {
    // SAFETY: a region is valid during the callback.
    let region = unsafe { &*region };
    // SAFETY: the library hands back the relay of the method above.
    let written = unsafe {
        relayed(userdata, |env, parts| {
            let Some([top, left, height, width]) = place(region) else { return Ok(false) };
            // SAFETY: a block has as many labels as it has pixels.
            let labels = slice::from_raw_parts(labels, region.height * region.width);
            let array = env.new_int_array(labels.len())?;
            array.set_region(env, 0, labels)?;
            let arguments = [top, left, height, width, JValue::Object(&array)];
            env.call_method(parts, jni_str!("write"), jni_sig!("(IIII[I)V"), &arguments)?;
            Ok(true)
        })
    };
    if written == Some(true) { 0 } else { 1 }
}

unsafe extern "C" fn on_progress(userdata: *mut c_void, progress: *const cellsparse_large_progress) -> i32 {
    // SAFETY: an event is valid during the callback.
    let progress = unsafe { &*progress };
    // SAFETY: the library hands back the relay of the method above, and a phase ends with NUL.
    let goes_on = unsafe {
        relayed(userdata, |env, parts| {
            let phase = env.new_string(CStr::from_ptr(progress.phase).to_string_lossy())?;
            let arguments = [
                JValue::Object(&phase),
                JValue::Long(progress.done as i64),
                JValue::Long(progress.total as i64),
                JValue::Double(progress.elapsed),
                JValue::Double(progress.remaining),
            ];
            env.call_method(parts, jni_str!("progress"), jni_sig!("(Ljava/lang/String;JJDD)Z"), &arguments)?.z()
        })
    };
    if goes_on == Some(true) { 0 } else { 1 }
}
