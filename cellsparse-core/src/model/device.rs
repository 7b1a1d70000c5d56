//! Which device the work runs on, and on how many threads.

use cellsparse_kernels::Level;

use super::options::{Device, Precision, Preset, TrainOptions};
use crate::error::{Error, Reason, Result};
use crate::networks::{self, Arithmetic};

/// A device that was found for a choice.
pub(super) struct Chosen {
    pub device: networks::Device,
    /// As a user would name it.
    pub name: String,
    /// What a user should know of the choice.
    pub note: Option<String>,
}

/// The device for a training. `Auto` computes with 16-bit factors on a CPU that is quicker with them, but in 32 bits for the reference
/// preset.
///
/// # Errors
/// As of [`resolve_in`].
pub(super) fn resolve_for_training(options: &TrainOptions) -> Result<Chosen> {
    let chosen = resolve_in(options.device, options.precision)?;
    let free = options.precision == Precision::Auto && options.preset != Preset::Reference;
    if free && chosen.device.is_cpu() && Level::detect().is_quicker_in_bf16() {
        return Ok(Chosen { device: chosen.device.computing_in(Arithmetic::Bf16)?, ..chosen });
    }
    Ok(chosen)
}

/// The device for a choice, computing with the numbers chosen; `Auto` means 32 bits.
///
/// # Errors
/// As of [`resolve`], and [`Error::Config`] for numbers that the device does not compute with.
pub(super) fn resolve_in(device: Device, precision: Precision) -> Result<Chosen> {
    let arithmetic = match precision {
        Precision::Auto | Precision::F32 => return resolve(device),
        Precision::Bf16 => Arithmetic::Bf16,
        Precision::Tf32 => Arithmetic::Tf32,
    };
    let chosen = resolve(device)?;
    Ok(Chosen { device: chosen.device.computing_in(arithmetic)?, ..chosen })
}

/// The numbers that a device computes with.
pub(super) fn precision_of(device: &networks::Device) -> Precision {
    match device.arithmetic() {
        Arithmetic::F32 => Precision::F32,
        Arithmetic::Bf16 => Precision::Bf16,
        Arithmetic::Tf32 => Precision::Tf32,
    }
}

/// The device for a choice.
///
/// `Auto` takes the best device of this build and machine, the CPU at worst, which is noted in a build for accelerators. It does
/// not take Metal, which must be named.
///
/// # Errors
/// [`Error::Device`] when a device was named that this build or this machine does not have.
pub(super) fn resolve(device: Device) -> Result<Chosen> {
    let found = |found: networks::Device| Chosen { device: found, name: device.to_string(), note: None };
    let absent = |error: Error| absent(device, &error.message());
    match device {
        Device::Cpu => Ok(found(networks::Device::cpu())),
        Device::Auto => Ok(first_of(accelerators().into_iter().filter(|choice| *choice != Device::Metal), resolve)),
        Device::Cuda(_) if !cfg!(feature = "cuda") => Err(self::absent(device, "this build has no CUDA support")),
        Device::Cuda(index) => networks::Device::cuda(index).map(found).map_err(absent),
        Device::Metal if !cfg!(feature = "metal") => Err(self::absent(device, "this build has no Metal support")),
        Device::Metal => networks::Device::metal().map(found).map_err(absent),
        #[cfg(all(test, feature = "candle"))]
        Device::StandIn(most_pixels) => Ok(found(networks::Device::stand_in(Some(most_pixels)))),
    }
}

/// The first of these devices that can be used, or the CPU, with a note on the first that could not.
fn first_of(choices: impl Iterator<Item = Device>, resolve: impl Fn(Device) -> Result<Chosen>) -> Chosen {
    let mut note = None;
    for choice in choices {
        match resolve(choice) {
            Ok(chosen) => return chosen,
            Err(error) => note = note.or_else(|| Some(format!("the CPU is used: {}", error.message()))),
        }
    }
    Chosen { device: networks::Device::cpu(), name: "cpu".into(), note }
}

/// The device for a choice, for networks that are no models of this library.
///
/// # Errors
/// As [`resolve`].
#[cfg(feature = "sam")]
pub(crate) fn open_device(device: Device) -> Result<networks::Device> {
    resolve(device).map(|chosen| chosen.device)
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
    fn auto_falls_back_to_the_cpu_with_one_line() {
        let missing = |device: Device| -> Result<Chosen> { Err(absent(device, "no driver\nand more")) };
        let chosen = first_of([Device::Cuda(0), Device::Cuda(1)].into_iter(), missing);
        assert!(chosen.device.is_cpu() && chosen.name == "cpu");
        let note = chosen.note.unwrap();
        assert!(note.contains("cuda:0 cannot be used: no driver") && !note.contains('\n'), "{note}");
        let chosen = first_of([Device::Cuda(0), Device::Cpu].into_iter(), |device| match device {
            Device::Cpu => resolve(device),
            other => missing(other),
        });
        assert_eq!(chosen.note, None);
    }

    /// With a driver or without, with the libraries of CUDA or without.
    #[test]
    #[cfg(feature = "cuda")]
    fn a_build_for_cuda_takes_a_card_or_says_in_one_line_why_not() {
        let chosen = resolve(Device::Auto).unwrap();
        let found = available_devices().contains(&Device::Cuda(0));
        match chosen.note {
            None => assert!(found && chosen.name == "cuda:0" && !chosen.device.is_cpu()),
            Some(note) => {
                assert!(!found && chosen.name == "cpu" && chosen.device.is_cpu(), "{note}");
                assert!(note.starts_with("the CPU is used: cuda:0 cannot be used: ") && !note.contains('\n'), "{note}");
            }
        }
    }

    #[test]
    fn numbers_are_taken_where_a_device_has_them() {
        assert_eq!(resolve_in(Device::Cpu, Precision::Bf16).unwrap().device.arithmetic(), Arithmetic::Bf16);
        let refused = resolve_in(Device::Cpu, Precision::Tf32).err().unwrap();
        assert!(refused.to_string().contains("tf32"), "{refused}");
        #[cfg(feature = "candle")]
        {
            let stand_in = Device::StandIn(usize::MAX);
            assert_eq!(resolve_in(stand_in, Precision::Bf16).unwrap().device.arithmetic(), Arithmetic::Bf16);
            assert!(resolve_in(stand_in, Precision::Tf32).is_err());
            assert_eq!(resolve_in(stand_in, Precision::F32).unwrap().device.arithmetic(), Arithmetic::F32);
        }
    }

    #[test]
    fn trainings_take_16_bit_factors_by_themselves_only_where_they_are_quicker_and_nothing_says_otherwise() {
        let arithmetic = |options: TrainOptions| resolve_for_training(&options).unwrap().device.arithmetic();
        let options = || TrainOptions { device: Device::Cpu, ..TrainOptions::default() };
        let quicker = if Level::detect().is_quicker_in_bf16() { Arithmetic::Bf16 } else { Arithmetic::F32 };
        assert_eq!(arithmetic(options()), quicker);
        assert_eq!(arithmetic(TrainOptions { precision: Precision::F32, ..options() }), Arithmetic::F32);
        assert_eq!(arithmetic(TrainOptions { precision: Precision::Bf16, ..options() }), Arithmetic::Bf16);
        let reference = TrainOptions { preset: Preset::Reference, ..options() };
        assert_eq!(arithmetic(reference), Arithmetic::F32);
        assert_eq!(
            resolve_in(Device::Cpu, Precision::Auto).unwrap().device.arithmetic(),
            Arithmetic::F32,
            "predictions"
        );
    }

    #[test]
    fn auto_is_the_cpu_without_accelerators_and_absent_devices_are_explained() {
        if cfg!(not(any(feature = "cuda", feature = "metal"))) {
            let chosen = resolve(Device::Auto).unwrap();
            assert_eq!((chosen.name.as_str(), chosen.note), ("cpu", None));
            assert_eq!(available_devices(), [Device::Cpu]);
            for device in [Device::Cuda(1), Device::Metal] {
                let error = resolve(device).err().unwrap();
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
