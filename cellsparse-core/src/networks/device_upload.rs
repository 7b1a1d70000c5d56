//! The way of values from the CPU to a device, which nobody waits for.
//!
//! From memory that the system may move, CUDA copies large arrays when everything before them is done, and the caller waits. So they go
//! through memory that stays where it is, and the copy waits in line with the other work of the device.
#![cfg_attr(feature = "cuda", allow(unsafe_code))]

use candle_core::{Device, Tensor};

use super::device_layers::Tensors;

/// Brings batches to a device.
#[derive(Debug)]
pub(crate) struct Uploads {
    device: Device,
    #[cfg(feature = "cuda")]
    pinned: std::sync::Mutex<pinned::Buffers>,
}

impl Uploads {
    /// To that device.
    pub fn to(device: &Device) -> Self {
        Self {
            device: device.clone(),
            #[cfg(feature = "cuda")]
            pinned: std::sync::Mutex::default(),
        }
    }

    /// Values as a tensor on the device, with 32 bits.
    pub fn place(&self, values: &[f32], shape: &[usize]) -> Tensors<Tensor> {
        #[cfg(feature = "cuda")]
        if let (Device::Cuda(device), Ok(mut pinned)) = (&self.device, self.pinned.lock())
            && let Some(tensor) = pinned.upload(device, values, shape)?
        {
            return Ok(tensor);
        }
        Tensor::from_slice(values, shape, &self.device)
    }
}

#[cfg(feature = "cuda")]
mod pinned {
    use std::collections::{HashMap, VecDeque};

    use candle_core::cuda_backend::cudarc::driver::PinnedHostSlice;
    use candle_core::cuda_backend::{CudaDevice, CudaStorage};
    use candle_core::op::BackpropOp;
    use candle_core::{Error, Storage, Tensor};

    use crate::networks::Tensors;

    /// Arrays of one size that may be on their way at a time.
    const ON_THE_WAY: usize = 3;

    /// Values below which the system copies without waiting anyhow.
    const SMALL: usize = 1 << 14;

    /// Memory that stays where it is, by its size, that which was used last at the end.
    #[derive(Debug, Default)]
    pub(super) struct Buffers(HashMap<usize, VecDeque<PinnedHostSlice<f32>>>);

    impl Buffers {
        /// The values as a tensor; none when there is no such memory or it is not worth it.
        pub fn upload(&mut self, device: &CudaDevice, values: &[f32], shape: &[usize]) -> Tensors<Option<Tensor>> {
            if values.len() < SMALL {
                return Ok(None);
            }
            let buffers = self.0.entry(values.len()).or_default();
            let kept = if buffers.len() < ON_THE_WAY { None } else { buffers.pop_front() };
            let mut buffer = match kept {
                Some(buffer) => buffer,
                None => {
                    let stream = device.cuda_stream();
                    // SAFETY: all values are written before any is read.
                    let Ok(buffer) = (unsafe { stream.context().alloc_pinned::<f32>(values.len()) }) else {
                        return Ok(None);
                    };
                    buffer
                }
            };
            // Waits for the copy that this memory was used for.
            buffer.as_mut_slice().map_err(Error::wrap)?.copy_from_slice(values);
            let placed = device.clone_htod(&buffer)?;
            buffers.push_back(buffer);
            let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(placed, device.clone()));
            Ok(Some(Tensor::from_storage(storage, shape, BackpropOp::none(), false)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_arrive_in_their_shape_however_many_are_on_their_way() {
        let uploads = Uploads::to(&Device::Cpu);
        let values = |step: usize| (0..20_000).map(|at| (at + step) as f32).collect::<Vec<_>>();
        let placed: Vec<Tensor> = (0..5).map(|step| uploads.place(&values(step), &[2, 10_000]).unwrap()).collect();
        for (step, tensor) in placed.iter().enumerate() {
            assert_eq!(tensor.dims(), [2, 10_000]);
            assert_eq!(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), values(step));
        }
        assert!(uploads.place(&[1.0], &[2]).is_err());
    }
}
