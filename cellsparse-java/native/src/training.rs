//! Training, with an observer of Java.

use std::ffi::{CStr, c_void};
use std::slice;

use cellsparse::*;
use jni::errors::Error;
use jni::objects::{JClass, JDoubleArray, JObject, JObjectArray, JString, JThrowable};
use jni::refs::Global;
use jni::sys::jlong;
use jni::{Env, EnvUnowned, JValue, Outcome as Ended, jni_mangle, jni_sig, jni_str};

use crate::bridge::{c, enter, produce, produce_text, text, token};

#[jni_mangle("io.github.cellsparse.Native")]
pub fn model_train<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    model: jlong,
    dataset: jlong,
    validation: jlong,
    options: JString<'local>,
    cancel: jlong,
    observer: JObject<'local>,
    summary: JDoubleArray<'local>,
) -> JString<'local> {
    enter(env, &class, |env| {
        let options = text(env, &options)?;
        let mut relay = Relay { env: env.get_raw(), observer: &observer, thrown: None };
        let watch: cellsparse_observer = if observer.is_null() { None } else { Some(on_step) };
        let userdata = (&raw mut relay).cast::<c_void>();
        let (model, dataset, validation, cancel) = (token(model), token(dataset), token(validation), token(cancel));
        let result = produce(|out| {
            c!(cellsparse_model_train(model, dataset, validation, options.as_ptr(), cancel, watch, userdata, out))
        });
        if let Some(thrown) = relay.thrown.take() {
            env.throw(&*thrown)?;
        }
        let done = result?;
        let values =
            [done.steps as f64, done.seconds, done.seconds_per_step, f64::from(done.loss), f64::from(done.stopped)];
        summary.set_region(env, 0, &values)?;
        // The model may have been closed while it was trained, so its handle is not asked.
        Ok(env.new_string(last_training().unwrap_or_default())?)
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn choose_algorithm<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    dataset: jlong,
    options: JString<'local>,
    cancel: jlong,
) -> JString<'local> {
    enter(env, &class, |env| {
        let options = text(env, &options)?;
        let (dataset, cancel) = (token(dataset), token(cancel));
        produce_text(env, |out| c!(cellsparse_choose_algorithm(dataset, options.as_ptr(), cancel, out)))
    })
}

/// What the observer of the C library needs to reach that of Java. Both run on the thread of the native method.
struct Relay<'a, 'local> {
    env: *mut jni::sys::JNIEnv,
    observer: &'a JObject<'local>,
    /// What the observer threw.
    thrown: Option<Global<JThrowable<'static>>>,
}

/// Passes an event on; an exception stops the training.
unsafe extern "C" fn on_step(userdata: *mut c_void, progress: *const cellsparse_progress) -> i32 {
    // SAFETY: the library hands back the relay of the method above, which is used by nobody else meanwhile.
    let relay = unsafe { &mut *userdata.cast::<Relay<'_, '_>>() };
    // SAFETY: an event is valid during the callback.
    let progress = unsafe { &*progress };
    // SAFETY: the environment is that of the native method on this very thread, which lasts longer.
    let mut env = unsafe { EnvUnowned::from_raw(relay.env) };
    let (observer, thrown) = (relay.observer, &mut relay.thrown);
    let ended = env.with_env(|env| -> Result<bool, Error> {
        let told = env.with_local_frame(16, |env| tell(env, observer, progress));
        if told.is_err()
            && let Some(exception) = env.exception_occurred()
        {
            env.exception_clear();
            *thrown = Some(env.new_global_ref(exception)?);
        }
        told
    });
    match ended.into_outcome() {
        Ended::Ok(true) => 0,
        Ended::Ok(false) | Ended::Err(_) | Ended::Panic(_) => 1,
    }
}

/// Calls the observer; whether it wants to go on.
fn tell(env: &mut Env<'_>, observer: &JObject<'_>, progress: &cellsparse_progress) -> Result<bool, Error> {
    let parts = if progress.n_losses == 0 {
        &[][..]
    } else {
        // SAFETY: an event has as many parts as it says.
        unsafe { slice::from_raw_parts(progress.losses, progress.n_losses) }
    };
    let names = JObjectArray::<JString>::new(env, parts.len(), JString::null())?;
    for (index, part) in parts.iter().enumerate() {
        // SAFETY: names end with NUL and last as long as the event.
        let name = env.new_string(unsafe { CStr::from_ptr(part.name) }.to_string_lossy())?;
        names.set_element(env, index, &name)?;
    }
    let values = env.new_float_array(parts.len())?;
    let numbers: Vec<f32> = parts.iter().map(|part| part.value).collect();
    values.set_region(env, 0, &numbers)?;
    let arguments = [
        JValue::Long(progress.step as i64),
        JValue::Long(progress.total_steps as i64),
        JValue::Long(progress.epoch as i64),
        JValue::Float(progress.loss),
        JValue::Float(progress.validation_loss),
        JValue::Float(progress.learning_rate),
        JValue::Double(progress.elapsed),
        JValue::Double(progress.remaining),
        JValue::Object(&names),
        JValue::Object(&values),
    ];
    env.call_method(observer, jni_str!("step"), jni_sig!("(JJJFFFDD[Ljava/lang/String;[F)Z"), &arguments)?.z()
}
