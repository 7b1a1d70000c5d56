//! The only place that reads and writes memory of the caller.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::slice;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::boundary::enter;
use crate::status::{Failure, Outcome, cellsparse_status};

/// Where a result goes; `None` is NULL.
pub(crate) type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// Writes a result.
pub(crate) fn put<T>(out: Out<'_, T>, value: T, name: &str) -> Outcome<()> {
    out.ok_or_else(|| Failure::null(name))?.write(value);
    Ok(())
}

/// Refuses an output that is NULL before any work is done for it.
pub(crate) fn expect<T>(out: &Out<'_, T>, name: &str) -> Outcome<()> {
    if out.is_some() { Ok(()) } else { Err(Failure::null(name)) }
}

/// What a pointer points to.
pub(crate) fn given<'a, T>(pointer: Option<&'a T>, name: &str) -> Outcome<&'a T> {
    pointer.ok_or_else(|| Failure::null(name))
}

/// A text of the caller.
///
/// # Safety
/// `text` is NULL or ends with NUL, and stays unchanged for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &str) -> Outcome<&'a str> {
    // SAFETY: as this function's own contract.
    unsafe { optional_text(text, name) }?.ok_or_else(|| Failure::null(name))
}

/// A text of the caller, or `None` for NULL.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn optional_text<'a>(text: *const c_char, name: &str) -> Outcome<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, so it ends with NUL by this function's contract.
    let text = unsafe { CStr::from_ptr(text) };
    let text = text.to_str().map_err(|error| Failure::argument(format!("{name} is not UTF-8: {error}")))?;
    Ok(Some(text))
}

/// Values of the caller. NULL is fine for no values.
///
/// # Safety
/// `values` is NULL or points to `length` initialised values that stay unchanged for `'a`.
pub(crate) unsafe fn array<'a, T>(values: *const T, length: usize, name: &str) -> Outcome<&'a [T]> {
    check_array(values, length, name)?;
    if length == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, aligned and of a possible size, so it is readable by this function's contract.
    Ok(unsafe { slice::from_raw_parts(values, length) })
}

/// Copies `source` to memory of the caller that has room for exactly as many values.
///
/// # Safety
/// `target` is NULL or points to room for `length` values that nothing else uses meanwhile.
pub(crate) unsafe fn copy_out<T: Copy>(source: &[T], target: *mut T, length: usize, name: &str) -> Outcome<()> {
    if length != source.len() {
        return Err(Failure::argument(format!("{name} has room for {length} values; expected {}", source.len())));
    }
    check_array(target, length, name)?;
    if length > 0 {
        // SAFETY: both hold `length` values, and `source` is memory of the library.
        unsafe { target.copy_from_nonoverlapping(source.as_ptr(), length) };
    }
    Ok(())
}

/// Refuses what cannot be an array of that many values.
pub(crate) fn check_array<T>(values: *const T, length: usize, name: &str) -> Outcome<()> {
    if length == 0 {
        return Ok(());
    }
    if values.is_null() {
        return Err(Failure::null(name));
    }
    if !values.is_aligned() {
        return Err(Failure::argument(format!("{name} is not aligned to {} bytes", align_of::<T>())));
    }
    if length.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(Failure::argument(format!("{name} has {length} values, more than memory can hold")));
    }
    Ok(())
}

/// Texts that callers hold, by address.
static TEXTS: LazyLock<Mutex<HashMap<usize, CString>>> = LazyLock::new(Mutex::default);

/// Hands a text to the caller, who gives it back with [`cellsparse_string_free`].
pub(crate) fn put_text(out: Out<'_, *const c_char>, text: String, name: &str) -> Outcome<()> {
    let out = out.ok_or_else(|| Failure::null(name))?;
    let text = CString::new(text).map_err(Failure::internal)?;
    let address = text.as_ptr();
    TEXTS.lock().unwrap_or_else(PoisonError::into_inner).insert(address.addr(), text);
    out.write(address);
    Ok(())
}

/// Texts that callers hold.
pub(crate) fn live_texts() -> usize {
    TEXTS.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// Frees a text that a call of the library gave out. May be called from any thread; NULL is fine.
///
/// Returns CELLSPARSE_STATUS_INVALID_HANDLE for any other address. A text that was freed before is one, until a later text happens
/// to get the same address: free each text once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_string_free(text: *const c_char) -> cellsparse_status {
    enter(|| {
        if text.is_null() {
            return Ok(());
        }
        let known = TEXTS.lock().unwrap_or_else(PoisonError::into_inner).remove(&text.addr());
        known.map(drop).ok_or_else(|| {
            let message = "this is no text of the library: it was freed before, or is the caller's own";
            Failure::new(cellsparse_status::InvalidHandle, message)
        })
    })
}
