//! What all methods share: errors become exceptions, and values are converted between Java and C.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;

use cellsparse::{Reason, cellsparse_status, cellsparse_string_free, last_failure};
use jni::errors::{Error, ThrowRuntimeExAndDefault};
use jni::objects::{JClass, JDoubleArray, JIntArray, JString, JThrowable};
use jni::sys::{jint, jlong};
use jni::{Env, EnvUnowned, JValue, jni_sig, jni_str};

/// Calls a function of the C library.
macro_rules! c {
    ($call:expr) => {
        // SAFETY: every pointer of the call is a token, which is never followed, or points to values that live longer than
        // the call and have the stated length.
        unsafe { $call }
    };
}
pub(crate) use c;

/// Why a method ends without a result.
pub(crate) enum Trouble {
    /// What the C library answered.
    Status(cellsparse_status, String),
    /// What the virtual machine answered; an exception may be pending.
    Java(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Java(error)
    }
}

pub(crate) type Outcome<T> = Result<T, Trouble>;

/// An argument that no method can take.
pub(crate) fn refuse(message: impl Into<String>) -> Trouble {
    Trouble::Status(cellsparse_status::InvalidArgument, message.into())
}

/// Runs the body of a method; failures and panics become exceptions.
pub(crate) fn enter<'local, T: Default>(
    mut env: EnvUnowned<'local>,
    class: &JClass<'local>,
    body: impl FnOnce(&mut Env<'local>) -> Outcome<T>,
) -> T {
    env.with_env(|env| match body(env) {
        Ok(value) => Ok(value),
        Err(Trouble::Status(status, message)) => throw(env, class, status, &message).map(|()| T::default()),
        // It is on its way to the caller.
        Err(Trouble::Java(Error::JavaException)) => Ok(T::default()),
        Err(Trouble::Java(error)) => {
            let message = format!("internal error (please report it): {error}");
            throw(env, class, cellsparse_status::Internal, &message).map(|()| T::default())
        }
    })
    .resolve::<ThrowRuntimeExAndDefault>()
}

fn throw<'local>(
    env: &mut Env<'local>,
    class: &JClass<'local>,
    status: cellsparse_status,
    message: &str,
) -> Result<(), Error> {
    if env.exception_check() {
        return Ok(());
    }
    let message = env.new_string(message)?;
    let made = env.call_static_method(
        class,
        jni_str!("failure"),
        jni_sig!("(ILjava/lang/String;)Ljava/lang/RuntimeException;"),
        &[JValue::Int(status as jint), JValue::Object(&message)],
    )?;
    let failure = JThrowable::cast_local(env, made.l()?)?;
    match env.throw(&failure) {
        Err(Error::JavaException) => Ok(()),
        other => other,
    }
}

/// Turns a status into a result.
pub(crate) fn check(status: cellsparse_status) -> Outcome<()> {
    match status {
        cellsparse_status::Ok => Ok(()),
        status => {
            let (message, reason) = last_failure();
            let advice = reason.as_ref().and_then(hint).map(|advice| format!("; {advice}")).unwrap_or_default();
            Err(Trouble::Status(status, message + &advice))
        }
    }
}

/// What to do about an error, in the words of Java.
fn hint(reason: &Reason) -> Option<String> {
    Some(match reason {
        Reason::LabelEncoding { suggested, .. } => format!("use Labels.Encoding.{}", suggested.to_ascii_uppercase()),
        Reason::DeviceAbsent { .. } => "choose device(\"cpu\")".into(),
        Reason::NotResumable => "choose resume(false)".into(),
        _ => return None,
    })
}

/// The output of a function of the C library.
pub(crate) fn produce<T>(call: impl FnOnce(Option<&mut MaybeUninit<T>>) -> cellsparse_status) -> Outcome<T> {
    let mut out = MaybeUninit::uninit();
    check(call(Some(&mut out)))?;
    // SAFETY: outputs are written on success.
    Ok(unsafe { out.assume_init() })
}

/// The text that a function of the C library gives out.
pub(crate) fn produce_text<'local>(
    env: &mut Env<'local>,
    call: impl FnOnce(Option<&mut MaybeUninit<*const c_char>>) -> cellsparse_status,
) -> Outcome<JString<'local>> {
    let text = produce(call)?;
    // SAFETY: texts of the library end with NUL and live until they are freed.
    let copy = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    check(c!(cellsparse_string_free(text)))?;
    Ok(env.new_string(copy)?)
}

/// The token behind a `long`.
pub(crate) fn token<T>(handle: jlong) -> *mut T {
    // A number too large for a pointer is no token; neither is this one.
    ptr::without_provenance_mut(usize::try_from(handle).unwrap_or(usize::MAX))
}

/// The `long` of a token.
pub(crate) fn handle<T>(token: *mut T) -> jlong {
    token.addr() as jlong
}

/// A text of Java.
pub(crate) fn text(env: &Env<'_>, text: &JString<'_>) -> Outcome<CString> {
    CString::new(text.try_to_string(env)?).map_err(|_| refuse("a text contains the character 0"))
}

/// A size of Java.
pub(crate) fn size(value: jint) -> Outcome<usize> {
    usize::try_from(value).map_err(|_| refuse(format!("a size or an index is {value}; it must be 0 or more")))
}

/// A copy of an array of Java.
pub(crate) fn ints(env: &Env<'_>, array: &JIntArray<'_>) -> Outcome<Vec<jint>> {
    let mut values = vec![0; array.len(env)?];
    array.get_region(env, 0, &mut values)?;
    Ok(values)
}

/// A copy of an array of Java.
pub(crate) fn doubles(env: &Env<'_>, array: &JDoubleArray<'_>) -> Outcome<Vec<f64>> {
    let mut values = vec![0.0; array.len(env)?];
    array.get_region(env, 0, &mut values)?;
    Ok(values)
}

/// An array for Java.
pub(crate) fn int_array<'local>(env: &mut Env<'local>, values: &[jint]) -> Outcome<JIntArray<'local>> {
    let array = env.new_int_array(values.len())?;
    array.set_region(env, 0, values)?;
    Ok(array)
}

/// An array for Java.
pub(crate) fn double_array<'local>(env: &mut Env<'local>, values: &[f64]) -> Outcome<JDoubleArray<'local>> {
    let array = env.new_double_array(values.len())?;
    array.set_region(env, 0, values)?;
    Ok(array)
}
