//! What a device reports, as an error of this library.

use crate::error::Error;

/// What the drivers say when a device has no memory left; in lower case.
const NO_MEMORY: [&str; 5] = [
    "out of memory",
    "out_of_memory",
    "failed to create metal resource: buffer",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
];

/// The error of this library for one of Candle: [`Error::Limit`] when the device has no memory left, else [`Error::Device`].
pub(crate) fn failed(error: candle_core::Error) -> Error {
    let text = error.to_string();
    let lower = text.to_lowercase();
    if NO_MEMORY.iter().any(|words| lower.contains(words)) {
        let reason = text.lines().next().unwrap_or_default();
        return Error::Limit(format!(
            "the memory of the device does not suffice ({reason}); give a smaller tile or batch, or end what else uses the device"
        ));
    }
    Error::Device(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_memory_is_a_limit_and_the_rest_is_the_device() {
        let of = |text: &str| failed(candle_core::Error::msg(text));
        for text in [
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "Metal error Failed to create metal resource: buffer",
            "CublasError(CUBLAS_STATUS_ALLOC_FAILED)",
        ] {
            assert!(matches!(of(text), Error::Limit(_)), "{text}");
        }
        assert!(matches!(of("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS)"), Error::Device(_)));
    }
}
