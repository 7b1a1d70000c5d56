//! Networks described once as graphs, and the two executors that run them.
//!
//! [`CpuPlan`] runs a graph with the kernels of `cellsparse-kernels`, laid out in memory once. With the feature `candle`,
//! `DeviceNetwork` runs it on the tensors of an accelerator, forward and backward, and `CandleNetwork` is the oracle of both in
//! tests: the same graph with gradients by Candle's autograd.

mod arithmetic;
mod bands;
#[cfg(feature = "candle")]
mod candle;
#[cfg(feature = "candle")]
mod candle_engine;
mod cellpose;
mod cpu;
mod cpu_backward;
mod device;
#[cfg(feature = "cuda")]
mod device_cuda;
#[cfg(feature = "cudnn")]
mod device_cudnn;
#[cfg(feature = "candle")]
mod device_error;
#[cfg(feature = "candle")]
mod device_layers;
#[cfg(feature = "candle")]
mod device_network;
#[cfg(feature = "candle")]
mod device_norm;
#[cfg(feature = "candle")]
mod device_upload;
mod elephant;
mod engine;
mod graph;
mod heads;
#[cfg(test)]
mod interruption_tests;
mod memory;
mod normalization;
#[cfg(test)]
mod rounding_tests;
mod stardist;
mod state_dict;
mod weights;

pub use self::arithmetic::Arithmetic;
#[cfg(feature = "candle")]
pub use self::candle::{CandleNetwork, CandlePass, Precision};
pub use self::cellpose::CellposeConfig;
pub use self::cpu::{CpuPlan, NodeTimes};
pub use self::device::Device;
#[cfg(all(test, feature = "candle"))]
pub(crate) use self::device::passes;
#[cfg(feature = "candle")]
pub(crate) use self::device_error::failed as device_failed;
#[cfg(feature = "candle")]
pub(crate) use self::device_layers::Tensors;
#[cfg(feature = "candle")]
pub(crate) use self::device_network::{DeviceNetwork, DevicePass, Purpose};
#[cfg(feature = "candle")]
pub(crate) use self::device_upload::Uploads;
pub use self::elephant::ElephantConfig;
pub use self::engine::{Engine, LossOf};
pub use self::graph::{Activation, Graph, Init, Initializer, Node, NodeId, Op, ParameterSpec, Statistics};
pub use self::normalization::ImageStatistics;
pub use self::stardist::StarDistConfig;
pub use self::state_dict::{StateDictEntry, from_state_dict, state_dict_entries, to_state_dict};
pub use self::weights::{Parameter, ParameterMut, Weights};
#[doc(no_inline)]
pub use cellsparse_kernels::{Level, Method};
