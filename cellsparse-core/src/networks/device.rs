//! A device that networks run on.

use cellsparse_kernels::Method;

use super::arithmetic::Arithmetic;
use crate::error::{Error, Result};

/// A device that was found and opened: the CPU, or an accelerator that Candle drives.
#[derive(Debug, Clone)]
pub struct Device(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Cpu(Arithmetic, Method),
    #[cfg(feature = "candle")]
    Accelerator(Accelerator),
}

/// Passes that have begun on devices that stand in for others, which tests tell apart by how many pixels they take.
#[cfg(all(test, feature = "candle"))]
pub(crate) mod passes {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    pub(super) static BEGUN: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

    /// Those on the device that takes that many pixels.
    pub(crate) fn on(most_pixels: usize) -> usize {
        BEGUN.lock().unwrap().get(&most_pixels).copied().unwrap_or(0)
    }
}

/// A device that Candle drives.
#[cfg(feature = "candle")]
#[derive(Debug, Clone)]
struct Accelerator {
    device: candle_core::Device,
    arithmetic: Arithmetic,
    /// Pixels of a batch above which it says that it has no memory left: of the one that stands in for others in tests.
    most_pixels: Option<usize>,
}

impl Device {
    /// The CPU.
    pub fn cpu() -> Self {
        Self::cpu_in(Arithmetic::F32)
    }

    /// The CPU, computing with these numbers.
    pub fn cpu_in(arithmetic: Arithmetic) -> Self {
        Self(Kind::Cpu(arithmetic, Method::Fast))
    }

    /// The CPU, sparing memory instead of time: the kernels of one layer at a time take memory beside the weights.
    pub fn sparing_cpu() -> Self {
        Self(Kind::Cpu(Arithmetic::F32, Method::Direct))
    }

    /// Whether it spares memory instead of time.
    pub fn is_sparing(&self) -> bool {
        self.method() == Method::Direct
    }

    /// How the CPU computes convolutions.
    pub(super) fn method(&self) -> Method {
        match self.0 {
            Kind::Cpu(Arithmetic::Bf16, Method::Fast) => Method::FastBf16,
            Kind::Cpu(_, method) => method,
            #[cfg(feature = "candle")]
            Kind::Accelerator(_) => Method::Fast,
        }
    }

    /// The CUDA device `index`.
    ///
    /// # Errors
    /// [`Error::Device`] when this build has no CUDA support or the machine has no such device.
    pub fn cuda(index: usize) -> Result<Self> {
        #[cfg(feature = "cuda")]
        return super::device_cuda::open(index).map(Self::driven);
        #[cfg(not(feature = "cuda"))]
        Err(Error::Device(format!("cuda:{index}: this build has no CUDA support; build with the feature cuda")))
    }

    /// The first Metal device.
    ///
    /// # Errors
    /// [`Error::Device`] when this build has no Metal support or the machine has no such device.
    pub fn metal() -> Result<Self> {
        #[cfg(feature = "metal")]
        return Ok(Self::driven(candle_core::Device::new_metal(0).map_err(super::device_error::failed)?));
        #[cfg(not(feature = "metal"))]
        Err(Error::Device("metal: this build has no Metal support; build with the feature metal".into()))
    }

    #[cfg(any(feature = "cuda", feature = "metal"))]
    fn driven(device: candle_core::Device) -> Self {
        Self(Kind::Accelerator(Accelerator { device, arithmetic: Arithmetic::F32, most_pixels: None }))
    }

    /// The CPU, driven by Candle as an accelerator is: what is done for accelerators can be tested on machines without one.
    /// Batches of more pixels than `most_pixels` find no memory.
    #[cfg(feature = "candle")]
    #[doc(hidden)]
    pub fn stand_in(most_pixels: Option<usize>) -> Self {
        let device = candle_core::Device::Cpu;
        Self(Kind::Accelerator(Accelerator { device, arithmetic: Arithmetic::F32, most_pixels }))
    }

    /// The same device, computing with these numbers.
    ///
    /// # Errors
    /// [`Error::Config`] when the device does not have them.
    pub fn computing_in(self, arithmetic: Arithmetic) -> Result<Self> {
        match self.0 {
            Kind::Cpu(_, method) if arithmetic != Arithmetic::Tf32 => Ok(Self(Kind::Cpu(arithmetic, method))),
            #[cfg(feature = "candle")]
            Kind::Accelerator(it) if arithmetic != Arithmetic::Tf32 || it.device.is_cuda() => {
                Ok(Self(Kind::Accelerator(Accelerator { arithmetic, ..it })))
            }
            _ => Err(Error::Config("precision tf32: CUDA devices alone have it; take f32 or bf16".into())),
        }
    }

    /// Whether it is the CPU.
    pub fn is_cpu(&self) -> bool {
        matches!(self.0, Kind::Cpu(..))
    }

    /// The numbers that it computes with.
    pub fn arithmetic(&self) -> Arithmetic {
        match &self.0 {
            Kind::Cpu(arithmetic, _) => *arithmetic,
            #[cfg(feature = "candle")]
            Kind::Accelerator(it) => it.arithmetic,
        }
    }

    /// The same for one device of this process that computes in one way, and different for two: `Cpu F32 Fast`, ...
    pub(crate) fn location(&self) -> String {
        match &self.0 {
            Kind::Cpu(arithmetic, method) => format!("Cpu {arithmetic:?} {method:?}"),
            #[cfg(feature = "candle")]
            Kind::Accelerator(it) => format!("{:?} {:?} {:?}", it.device.location(), it.arithmetic, it.most_pixels),
        }
    }

    /// The device as Candle knows it.
    #[cfg(feature = "candle")]
    pub(crate) fn candle(&self) -> candle_core::Device {
        match &self.0 {
            Kind::Cpu(..) => candle_core::Device::Cpu,
            Kind::Accelerator(it) => it.device.clone(),
        }
    }

    /// The type of the numbers that an accelerator computes with.
    #[cfg(feature = "candle")]
    pub(super) fn numbers(&self) -> candle_core::DType {
        match self.arithmetic() {
            Arithmetic::Bf16 => candle_core::DType::BF16,
            Arithmetic::F32 | Arithmetic::Tf32 => candle_core::DType::F32,
        }
    }

    /// Refuses a batch that the device has no memory for, as far as that is known beforehand.
    #[cfg(feature = "candle")]
    pub(super) fn check_room(&self, shape: [usize; 3]) -> candle_core::Result<()> {
        #[cfg(test)]
        if let Kind::Accelerator(Accelerator { most_pixels: Some(most), .. }) = &self.0 {
            *passes::BEGUN.lock().unwrap().entry(*most).or_default() += 1;
        }
        match &self.0 {
            Kind::Accelerator(Accelerator { most_pixels: Some(most), .. })
                if shape.iter().product::<usize>() > *most =>
            {
                Err(candle_core::Error::msg("out of memory"))
            }
            _ => Ok(()),
        }
    }
}
