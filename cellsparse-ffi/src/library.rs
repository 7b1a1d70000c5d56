//! The library itself: versions, devices, cancel handles, what is still held.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::sync::Arc;

use cellsparse_core::CancelToken;
use cellsparse_core::model::available_devices;

use crate::boundary::enter;
use crate::dataset::Pairs;
use crate::handles::{Behind, Table};
use crate::model::SharedModel;
use crate::outlines::Outlines;
use crate::pointers::{expect, live_texts, put, put_text};
use crate::sam::Clicks;
use crate::segmentation::Found;
use crate::status::{Failure, Outcome, cellsparse_status};

/// The version of the binary interface that this header describes. A program compares it with
/// cellsparse_abi_version() before anything else.
pub const CELLSPARSE_ABI_VERSION: u32 = 1;

/// The version of the binary interface of the loaded library. It changes when a program that was compiled against an older
/// header would misbehave; additions leave it alone. Cannot fail; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn cellsparse_abi_version() -> u32 {
    CELLSPARSE_ABI_VERSION
}

/// The version of the library, such as "0.1.0". The text is static. Cannot fail; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn cellsparse_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// The devices that this build can use on this machine, as a JSON array of the names that the option "device" takes, the
/// one that "auto" chooses first: ["cpu"]. Free the text with cellsparse_string_free(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_devices(json_out: Option<&mut MaybeUninit<*const c_char>>) -> cellsparse_status {
    enter(|| {
        let names: Vec<String> = available_devices().iter().map(ToString::to_string).collect();
        put_text(json_out, serde_json::to_string(&names).map_err(Failure::internal)?, "json_out")
    })
}

/// The number of handles and texts that were given out and not freed: 0 at the end of a program that frees everything.
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_live_handles(count_out: Option<&mut MaybeUninit<usize>>) -> cellsparse_status {
    enter(|| {
        let handles = Token::table().len() + Pairs::table().len() + SharedModel::table().len();
        let results = Found::table().len() + Outlines::table().len() + Clicks::table().len();
        put(count_out, handles + results + live_texts(), "count_out")
    })
}

/// A flag that any thread may raise to stop work. Opaque.
pub struct cellsparse_cancel {
    _opaque: (),
}

/// A cancel token behind its handle.
pub(crate) struct Token(pub CancelToken);

impl Behind for Token {
    type Token = cellsparse_cancel;
    const NAME: &'static str = "cancel";

    fn table() -> &'static Table<Self> {
        static TABLE: Table<Token> = Table::new();
        &TABLE
    }
}

impl Token {
    /// The token of a handle that may be NULL.
    pub fn optional(handle: *const cellsparse_cancel) -> Outcome<CancelToken> {
        if handle.is_null() {
            return Ok(CancelToken::new());
        }
        Ok(Self::find(handle)?.0.clone())
    }
}

/// Makes a cancel handle that is not raised. One handle may stop many calls. Any thread; a cancel handle is never busy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_cancel_new(
    cancel_out: Option<&mut MaybeUninit<*mut cellsparse_cancel>>,
) -> cellsparse_status {
    enter(|| Token(CancelToken::new()).publish(cancel_out, "cancel_out"))
}

/// Asks the calls that were given this handle to stop: training at its next step, prediction at its next tile. It cannot be
/// lowered again. Any thread, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_cancel_raise(cancel: *const cellsparse_cancel) -> cellsparse_status {
    enter(|| {
        Token::find(cancel)?.0.cancel();
        Ok(())
    })
}

/// Whether cellsparse_cancel_raise() was called: 1 or 0. Any thread, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_cancel_is_raised(
    cancel: *const cellsparse_cancel,
    raised_out: Option<&mut MaybeUninit<i32>>,
) -> cellsparse_status {
    enter(|| {
        expect(&raised_out, "raised_out")?;
        let token: Arc<Token> = Token::find(cancel)?;
        put(raised_out, i32::from(token.0.is_cancelled()), "raised_out")
    })
}

/// Frees a cancel handle. Calls that were given it go on, and can no longer be stopped by it. Any thread; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_cancel_free(cancel: *mut cellsparse_cancel) -> cellsparse_status {
    enter(|| Token::free(cancel))
}
