//! Networks described once as graphs, and the two executors that run them.
//!
//! [`CpuPlan`] runs a graph with the kernels of `cellsparse-kernels`, laid out in memory once. With the feature `candle`,
//! `CandleNetwork` runs the same graph on Candle tensors, on any device, and is the oracle of the former in tests.

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
mod elephant;
mod engine;
mod graph;
mod memory;
mod normalization;
mod stardist;
mod state_dict;
mod weights;

pub use self::arithmetic::Arithmetic;
#[cfg(feature = "candle")]
pub use self::candle::{CandleNetwork, CandlePass, Precision};
pub use self::cellpose::CellposeConfig;
pub use self::cpu::{CpuPlan, ImageStatistics, NodeTimes};
pub use self::device::Device;
pub use self::elephant::ElephantConfig;
pub use self::engine::Engine;
pub use self::graph::{Activation, Graph, Init, Initializer, Node, NodeId, Op, ParameterSpec, Statistics};
pub use self::stardist::StarDistConfig;
pub use self::state_dict::{StateDictEntry, from_state_dict, state_dict_entries, to_state_dict};
pub use self::weights::{Parameter, ParameterMut, Weights};
#[doc(no_inline)]
pub use cellsparse_kernels::{Level, Method};
