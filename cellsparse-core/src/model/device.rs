//! Which device the work runs on, and on how many threads.

use super::options::{Device, Precision};
use crate::error::{Error, Reason, Result};
use crate::networks::{self, Arithmetic};

/// The device for a choice, computing with the numbers chosen, and its name.
///
/// # Errors
/// As of [`resolve`], and [`Error::Config`] for numbers that the device does not compute with.
pub(super) fn resolve_in(device: Device, precision: Precision) -> Result<(networks::Device, String)> {
    match (precision, device) {
        (Precision::Auto | Precision::F32, _) => resolve(device),
        (Precision::Bf16, Device::Auto | Device::Cpu) => {
            Ok((networks::Device::cpu_in(Arithmetic::Bf16), Device::Cpu.to_string()))
        }
        (Precision::Bf16, _) => Err(Error::Config(format!(
            "precision bf16 on the device {device}: bfloat16 is computed on the CPU alone; take f32, or the device cpu"
        ))),
    }
}

/// The device for a choice, and its name.
///
/// `Auto` takes the best device of this build and machine, the CPU at worst. It does not take Metal, which has not been
/// tried on a machine yet and must be named.
///
/// # Errors
/// [`Error::Device`] when a device was named that this build or this machine does not have.
pub(super) fn resolve(device: Device) -> Result<(networks::Device, String)> {
    match device {
        Device::Cpu => Ok((networks::Device::cpu(), "cpu".into())),
        Device::Auto => {
            let mut tried = accelerators().into_iter().filter(|choice| *choice != Device::Metal);
            let found = tried.find_map(|choice| resolve(choice).ok());
            Ok(found.unwrap_or((networks::Device::cpu(), "cpu".into())))
        }
        Device::Cuda(index) => {
            if !cfg!(feature = "cuda") {
                return Err(absent(device, "this build has no CUDA support"));
            }
            let found = networks::Device::cuda(index).map_err(|error| absent(device, &error.to_string()))?;
            Ok((found, device.to_string()))
        }
        Device::Metal => {
            if !cfg!(feature = "metal") {
                return Err(absent(device, "this build has no Metal support"));
            }
            let found = networks::Device::metal().map_err(|error| absent(device, &error.to_string()))?;
            Ok((found, device.to_string()))
        }
    }
}

/// The device for a choice, for networks that are no models of this library.
///
/// # Errors
/// As [`resolve`].
#[cfg(feature = "sam")]
pub(crate) fn open_device(device: Device) -> Result<networks::Device> {
    resolve(device).map(|(device, _)| device)
}

/// The devices that this build can use on this machine, accelerators first; the CPU is always among them.
pub fn available_devices() -> Vec<Device> {
    let mut devices: Vec<Device> = accelerators().into_iter().filter(|device| resolve(*device).is_ok()).collect();
    devices.push(Device::Cpu);
    devices
}

/// Devices that this build can use and this machine may have.
fn accelerators() -> Vec<Device> {
    let mut devices = Vec::new();
    if cfg!(feature = "cuda") {
        devices.push(Device::Cuda(0));
    }
    if cfg!(feature = "metal") {
        devices.push(Device::Metal);
    }
    devices
}

fn absent(device: Device, reason: &str) -> Error {
    let reason = reason.lines().next().unwrap_or_default();
    let feature = match device {
        Device::Cuda(_) if !cfg!(feature = "cuda") => Some("cuda"),
        Device::Metal if !cfg!(feature = "metal") => Some("metal"),
        _ => None,
    };
    Error::Device(format!("{device} cannot be used: {reason}"))
        .because(Reason::DeviceAbsent { device: device.to_string(), feature })
}

/// Threads for what the caller asked for: one per core when `None`, and no more than twice as many.
///
/// # Errors
/// [`Error::Config`] for a number outside 1..=1024.
pub(super) fn thread_count(threads: Option<usize>) -> Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.unwrap_or(cores);
    if !(1..=1024).contains(&threads) {
        return Err(Error::Config(format!("{threads} threads; give a number between 1 and 1024"))
            .because(Reason::out_of_range("threads", threads as f64, 1.0..=1024.0)));
    }
    // More only wait for each other.
    Ok(threads.min(2 * cores))
}

/// A pool of that many threads, so that no global pool is touched.
///
/// # Errors
/// [`Error::Internal`] when the threads cannot be started.
pub(super) fn thread_pool(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("cellsparse-{index}"))
        .build()
        .map_err(|error| Error::Internal(format!("starting {threads} threads: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_the_cpu_without_accelerators_and_absent_devices_are_explained() {
        if cfg!(not(any(feature = "cuda", feature = "metal"))) {
            assert_eq!(resolve(Device::Auto).unwrap().1, "cpu");
            assert_eq!(available_devices(), [Device::Cpu]);
            for device in [Device::Cuda(1), Device::Metal] {
                let error = resolve(device).unwrap_err();
                assert!(error.to_string().contains(&device.to_string()), "{error}");
                let feature = if device == Device::Metal { "metal" } else { "cuda" };
                let reason = Reason::DeviceAbsent { device: device.to_string(), feature: Some(feature) };
                assert_eq!(error.reason(), Some(&reason));
            }
        }
        for threads in [0, 1025] {
            assert_eq!(thread_count(Some(threads)).unwrap_err().kind(), crate::error::ErrorKind::Config);
        }
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!((thread_count(None).unwrap(), thread_count(Some(1024)).unwrap()), (cores, (2 * cores).min(1024)));
    }
}
