//! The wall around every function: panics and failures become status codes.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::status::{Failure, Outcome, cellsparse_status};

thread_local! {
    static LAST_MESSAGE: RefCell<CString> = RefCell::default();
}

/// Why the last failed call of this thread failed: what was found, what was expected and what to do. An empty text when no
/// call has failed yet.
///
/// Never NULL. The text belongs to the library and is valid until the next failed call of this thread, or its end. Calls
/// that succeed leave it alone.
#[unsafe(no_mangle)]
pub extern "C" fn cellsparse_last_error_message() -> *const c_char {
    const NOTHING: &CStr = c"";
    LAST_MESSAGE.try_with(|message| message.borrow().as_ptr()).unwrap_or(NOTHING.as_ptr())
}

/// Runs the body of a function of the library; nothing unwinds out of it.
///
/// State behind handles is consistent after a panic: models are replaced whole at the end of what changes them.
pub(crate) fn enter(body: impl FnOnce() -> Outcome<()>) -> cellsparse_status {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return cellsparse_status::Ok,
        Ok(Err(failure)) => failure,
        Err(payload) => Failure::internal(panic_message(&*payload)),
    };
    let text = CString::new(failure.message.replace('\0', " ")).unwrap_or_default();
    // A thread whose locals are gone can still have its status.
    let _ = LAST_MESSAGE.try_with(|message| message.replace(text));
    failure.status
}

/// What a panic said.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("a panic: {}", text.unwrap_or("without a message"))
}

/// Panics behind the border, for the tests of it; not in release builds and not in the header.
/// cbindgen:ignore
#[cfg(debug_assertions)]
#[unsafe(no_mangle)]
pub extern "C" fn cellsparse_test_panic() -> cellsparse_status {
    enter(|| panic!("on purpose"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> String {
        // SAFETY: the function returns a text that lives until the next failure of this thread.
        unsafe { CStr::from_ptr(cellsparse_last_error_message()) }.to_string_lossy().into_owned()
    }

    #[test]
    fn a_panic_becomes_a_status() {
        assert_eq!(cellsparse_test_panic(), cellsparse_status::Internal);
        assert!(message().contains("please report it") && message().contains("on purpose"), "{}", message());
        assert_eq!(enter(|| std::panic::panic_any(7)), cellsparse_status::Internal);
        assert!(message().contains("without a message"));
    }

    #[test]
    fn messages_belong_to_their_thread_and_hold_no_nul() {
        assert_eq!(enter(|| Err(Failure::argument("a\0b"))), cellsparse_status::InvalidArgument);
        assert_eq!(message(), "a b");
        std::thread::spawn(|| assert_eq!(message(), "")).join().unwrap();
        assert_eq!(enter(|| Ok(())), cellsparse_status::Ok);
        assert_eq!(message(), "a b", "success leaves the message alone");
    }
}
