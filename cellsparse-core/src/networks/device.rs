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
    #[cfg(any(feature = "cuda", feature = "metal"))]
    Accelerator(candle_core::Device),
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
            Kind::Cpu(_, method) => method,
            #[cfg(any(feature = "cuda", feature = "metal"))]
            Kind::Accelerator(_) => Method::Fast,
        }
    }

    /// The CUDA device `index`.
    ///
    /// # Errors
    /// [`Error::Device`] when this build has no CUDA support or the machine has no such device.
    pub fn cuda(index: usize) -> Result<Self> {
        #[cfg(feature = "cuda")]
        return Ok(Self(Kind::Accelerator(candle_core::Device::new_cuda(index).map_err(super::candle::failed)?)));
        #[cfg(not(feature = "cuda"))]
        Err(Error::Device(format!("cuda:{index}: this build has no CUDA support; build with the feature cuda")))
    }

    /// The first Metal device.
    ///
    /// # Errors
    /// [`Error::Device`] when this build has no Metal support or the machine has no such device.
    pub fn metal() -> Result<Self> {
        #[cfg(feature = "metal")]
        return Ok(Self(Kind::Accelerator(candle_core::Device::new_metal(0).map_err(super::candle::failed)?)));
        #[cfg(not(feature = "metal"))]
        Err(Error::Device("metal: this build has no Metal support; build with the feature metal".into()))
    }

    /// Whether it is the CPU.
    pub fn is_cpu(&self) -> bool {
        matches!(self.0, Kind::Cpu(..))
    }

    /// The numbers that it computes with.
    pub fn arithmetic(&self) -> Arithmetic {
        match self.0 {
            Kind::Cpu(arithmetic, _) => arithmetic,
            #[cfg(any(feature = "cuda", feature = "metal"))]
            Kind::Accelerator(_) => Arithmetic::F32,
        }
    }

    /// The same for one device of this process that computes in one way, and different for two: `Cpu F32 Fast`, `Cuda { gpu_id: 0 }`, ...
    pub(crate) fn location(&self) -> String {
        match &self.0 {
            Kind::Cpu(arithmetic, method) => format!("Cpu {arithmetic:?} {method:?}"),
            #[cfg(any(feature = "cuda", feature = "metal"))]
            Kind::Accelerator(device) => format!("{:?}", device.location()),
        }
    }

    /// The device as Candle knows it.
    #[cfg(feature = "candle")]
    pub(crate) fn candle(&self) -> candle_core::Device {
        match &self.0 {
            Kind::Cpu(..) => candle_core::Device::Cpu,
            #[cfg(any(feature = "cuda", feature = "metal"))]
            Kind::Accelerator(device) => device.clone(),
        }
    }
}
