//! CUDA devices, on machines that may have neither a driver nor the libraries of CUDA.
//!
//! A program is linked with them, and does not start without them; or it loads them when it opens a device, where the bindings of
//! Candle were compiled so (`tests/cuda_toolkit.sh`).
#![cfg_attr(feature = "dynamic-loading", allow(unsafe_code))]

use crate::error::{Error, Result, contain_panic};

/// Opens the CUDA device `index`.
///
/// # Errors
/// [`Error::Device`] when there is none, or when a library is missing.
pub(super) fn open(index: usize) -> Result<candle_core::Device> {
    #[cfg(feature = "dynamic-loading")]
    look_for_libraries()?;
    // The bindings panic where a library is there and lacks a function.
    let opened = contain_panic(|| candle_core::Device::new_cuda(index)).map_err(Error::Device)?;
    opened.map_err(super::device_error::failed)
}

/// What is looked for in vain by the bindings themselves ends in a panic, with its message on the screen.
#[cfg(feature = "dynamic-loading")]
fn look_for_libraries() -> Result<()> {
    use candle_core::cuda_backend::cudarc::{cublas, curand, driver};

    // SAFETY: these only try to load NVIDIA's libraries, whose initialisers ask nothing of the caller.
    let found = unsafe {
        [
            ("libcuda", driver::sys::is_culib_present()),
            ("libcublas", cublas::sys::is_culib_present()),
            ("libcurand", curand::sys::is_culib_present()),
            #[cfg(feature = "cudnn")]
            ("libcudnn", candle_core::cuda_backend::cudarc::cudnn::sys::is_culib_present()),
        ]
    };
    match found.iter().find(|(_, found)| !found) {
        None => Ok(()),
        Some(("libcuda", _)) => Err(Error::Device("no driver for CUDA was found (libcuda)".into())),
        Some((name, _)) => Err(Error::Device(format!(
            "{name} was not found; install the CUDA toolkit, or name the folder of its libraries in LD_LIBRARY_PATH"
        ))),
    }
}
