//! Convolutions and their gradients by cuDNN, on CUDA devices. Kernels are `[out, in, k, k]`; stride 1, zero padding.
//!
//! This is a border to another language, so it is one of the few files of this crate with `unsafe`: cuDNN reads and writes the memory
//! that descriptors describe, which are made here from the shapes of the tensors.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t as DataWay, cudnnConvolutionBwdFilterAlgo_t as KernelWay, cudnnConvolutionMode_t,
    cudnnMathType_t, cudnnTensorFormat_t,
};
use candle_core::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvForward, Cudnn, CudnnDataType,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage, DeviceId};
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Shape, Tensor, WithDType};

use super::device_layers::Tensors;

thread_local! {
    /// What cuDNN keeps for a device, which belongs to one thread.
    static HANDLES: RefCell<HashMap<DeviceId, Arc<Cudnn>>> = RefCell::default();
}

/// The convolution of `x` (`[batch, in, height, width]`).
pub(super) fn forward(x: &Tensor, kernel: &Tensor) -> Tensors<Tensor> {
    let (batch, inputs, height, width) = x.dims4()?;
    let (outputs, _, side, _) = kernel.dims4()?;
    let sizes = Sizes { batch, inputs, outputs, height, width, side };
    x.contiguous()?.apply_op2_no_bwd(&kernel.contiguous()?, &Convolution { pass: Pass::Forward, sizes })
}

/// The gradient of the input from that of the output.
pub(super) fn input_gradient(gradient: &Tensor, kernel: &Tensor) -> Tensors<Tensor> {
    let (batch, outputs, height, width) = gradient.dims4()?;
    let (_, inputs, side, _) = kernel.dims4()?;
    let sizes = Sizes { batch, inputs, outputs, height, width, side };
    gradient.contiguous()?.apply_op2_no_bwd(&kernel.contiguous()?, &Convolution { pass: Pass::Input, sizes })
}

/// The gradient of the kernel from the input and the gradient of the output.
pub(super) fn kernel_gradient(x: &Tensor, gradient: &Tensor, side: usize) -> Tensors<Tensor> {
    let (batch, inputs, height, width) = x.dims4()?;
    let sizes = Sizes { batch, inputs, outputs: gradient.dim(1)?, height, width, side };
    x.contiguous()?.apply_op2_no_bwd(&gradient.contiguous()?, &Convolution { pass: Pass::Kernel, sizes })
}

/// What is computed from two tensors: those of the functions above, in their order.
#[derive(Debug, Clone, Copy)]
enum Pass {
    Forward,
    Input,
    Kernel,
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch: usize,
    inputs: usize,
    outputs: usize,
    height: usize,
    width: usize,
    side: usize,
}

impl Sizes {
    fn x(self) -> [usize; 4] {
        [self.batch, self.inputs, self.height, self.width]
    }

    fn y(self) -> [usize; 4] {
        [self.batch, self.outputs, self.height, self.width]
    }

    fn kernel(self) -> [usize; 4] {
        [self.outputs, self.inputs, self.side, self.side]
    }
}

struct Convolution {
    pass: Pass,
    sizes: Sizes,
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "cudnn-convolution"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Tensors<(CpuStorage, Shape)> {
        candle_core::bail!("cuDNN computes on CUDA devices alone")
    }

    fn cuda_fwd(
        &self,
        first: &CudaStorage,
        first_layout: &Layout,
        second: &CudaStorage,
        second_layout: &Layout,
    ) -> Tensors<(CudaStorage, Shape)> {
        let (first, second) = ((first, first_layout), (second, second_layout));
        match (first.0.dtype(), second.0.dtype()) {
            (DType::F32, DType::F32) => self.run::<f32, f32>(first, second),
            (DType::F64, DType::F64) => self.run::<f64, f64>(first, second),
            // Sums have 32 bits.
            (DType::BF16, DType::BF16) => self.run::<half::bf16, f32>(first, second),
            (first, second) => candle_core::bail!("a convolution of {first:?} with {second:?}"),
        }
    }
}

impl Convolution {
    /// On numbers `T`, with sums of numbers `S`.
    fn run<T, S>(
        &self,
        (first, first_layout): (&CudaStorage, &Layout),
        (second, second_layout): (&CudaStorage, &Layout),
    ) -> Tensors<(CudaStorage, Shape)>
    where
        T: CudaDType + CudnnDataType + DeviceRepr + WithDType,
        S: CudnnDataType,
    {
        let Self { pass, sizes } = *self;
        let (x, y, kernel) = (sizes.x(), sizes.y(), sizes.kernel());
        let (shapes, made) = match pass {
            Pass::Forward => ([x, kernel], y),
            Pass::Input => ([y, kernel], x),
            Pass::Kernel => ([x, y], kernel),
        };
        for (layout, shape) in [first_layout, second_layout].into_iter().zip(shapes) {
            if !layout.is_contiguous() || layout.dims() != shape {
                candle_core::bail!("a convolution of {:?} instead of {shape:?}", layout.shape());
            }
        }
        let device = first.device().clone();
        let cudnn = handle(&device)?;
        let padding = [(sizes.side / 2) as i32; 2];
        let mode = cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let mut conv = cudnn.create_conv2d::<S>(padding, [1; 2], [1; 2], mode)?;
        conv.set_math_type(math(T::DTYPE))?;
        let format = cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;
        let int = |sides: [usize; 4]| sides.map(|side| side as i32);
        let (conv, x) = (&conv, &cudnn.create_4d_tensor::<T>(format, int(x))?);
        let y = &cudnn.create_4d_tensor::<T>(format, int(y))?;
        let kernel = &cudnn.create_4d_filter::<T>(format, int(kernel))?;
        let first = first.as_cuda_slice::<T>()?.slice(first_layout.start_offset()..);
        let second = second.as_cuda_slice::<T>()?.slice(second_layout.start_offset()..);
        let factors = (T::from_f64(1.0), T::from_f64(0.0));
        // SAFETY: every value is written below, since what was there counts nothing.
        let mut to = unsafe { device.alloc::<T>(made.iter().product()) }?;
        match pass {
            Pass::Forward => {
                let op = ConvForward { conv, x, w: kernel, y };
                let way = op.pick_algorithm()?;
                let mut space = workspace(&device, op.get_workspace_size(way)?)?;
                // SAFETY: all three are contiguous in the shapes of the descriptors.
                unsafe { op.launch(way, Some(&mut space), factors, &first, &second, &mut to) }?;
            }
            Pass::Input => {
                let op = ConvBackwardData { conv, dx: x, w: kernel, dy: y };
                // The other one adds in any order.
                let way = match op.pick_algorithm()? {
                    DataWay::CUDNN_CONVOLUTION_BWD_DATA_ALGO_0 => DataWay::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
                    way => way,
                };
                let mut space = workspace(&device, op.get_workspace_size(way)?)?;
                // SAFETY: all three are contiguous in the shapes of the descriptors.
                unsafe { op.launch(way, Some(&mut space), factors, &mut to, &second, &first) }?;
            }
            Pass::Kernel => {
                let op = ConvBackwardFilter { conv, x, dw: kernel, dy: y };
                let way = match op.pick_algorithm()? {
                    KernelWay::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0 | KernelWay::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3 => {
                        KernelWay::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1
                    }
                    way => way,
                };
                let mut space = workspace(&device, op.get_workspace_size(way)?)?;
                // SAFETY: all three are contiguous in the shapes of the descriptors.
                unsafe { op.launch(way, Some(&mut space), factors, &first, &mut to, &second) }?;
            }
        }
        Ok((CudaStorage::wrap_cuda_slice(to, device), Shape::from_dims(&made)))
    }
}

/// How numbers are multiplied. Left to itself, cuDNN shortens those of 32 bits.
fn math(numbers: DType) -> cudnnMathType_t {
    match numbers {
        DType::BF16 => cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        DType::F32 if candle_core::cuda::gemm_reduced_precision_f32() => cudnnMathType_t::CUDNN_DEFAULT_MATH,
        _ => cudnnMathType_t::CUDNN_FMA_MATH,
    }
}

fn handle(device: &CudaDevice) -> Tensors<Arc<Cudnn>> {
    HANDLES.with_borrow_mut(|handles| {
        if let Some(handle) = handles.get(&device.id()) {
            return Ok(Arc::clone(handle));
        }
        let made = Cudnn::new(device.cuda_stream())?;
        handles.insert(device.id(), Arc::clone(&made));
        Ok(made)
    })
}

fn workspace(device: &CudaDevice, bytes: usize) -> Tensors<CudaSlice<u8>> {
    // SAFETY: cuDNN reads nothing there that it has not written.
    unsafe { device.alloc::<u8>(bytes.max(1)) }
}
