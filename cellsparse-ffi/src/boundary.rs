//! The wall around every function: panics and failures become status codes.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use cellsparse_core::Reason;

use crate::status::{Failure, Outcome, cellsparse_status, hint};

thread_local! {
    static LAST_MESSAGE: RefCell<CString> = RefCell::default();
    /// The same for languages above C, which say it in words of their own.
    static LAST_FAILURE: RefCell<(String, Option<Reason>)> = RefCell::default();
}

/// The message of the last failed call of this thread without advice in the words of C, and what it is about.
/// cbindgen:ignore
pub fn last_failure() -> (String, Option<Reason>) {
    LAST_FAILURE.try_with(|failure| failure.borrow().clone()).unwrap_or_default()
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
    let Failure { status, message, reason } = failure;
    let advice = reason.as_ref().and_then(hint).map(|advice| format!("; {advice}")).unwrap_or_default();
    let text = CString::new(format!("{message}{advice}").replace('\0', " ")).unwrap_or_default();
    // A thread whose locals are gone can still have its status.
    let _ = LAST_MESSAGE.try_with(|last| last.replace(text));
    let _ = LAST_FAILURE.try_with(|last| last.replace((message, reason)));
    status
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
    fn advice_is_in_the_words_of_the_language() {
        let dense = || cellsparse_core::Error::Labels("they look dense".into());
        enter(|| Err(dense().because(Reason::label_encoding("dense")).into()));
        assert_eq!(message(), "labels: they look dense; pass CELLSPARSE_ENCODING_DENSE");
        assert_eq!(last_failure(), ("labels: they look dense".into(), Some(Reason::label_encoding("dense"))));
        enter(|| Err(dense().into()));
        assert_eq!((message().as_str(), last_failure().1), ("labels: they look dense", None));
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
