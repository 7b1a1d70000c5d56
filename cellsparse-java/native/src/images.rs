//! Pixels of Java: copies of arrays, or direct buffers where they lie.

use std::ffi::c_void;

use cellsparse::{cellsparse_dtype, cellsparse_image};
use jni::Env;
use jni::objects::{JByteArray, JByteBuffer, JFloatArray, JObject, JShortArray};
use jni::sys::{jboolean, jint, jlong};

use crate::bridge::{Outcome, refuse, size};

/// An image as Java describes it.
pub(crate) struct Described<'a, 'local> {
    pub pixels: &'a JObject<'local>,
    pub direct: jboolean,
    pub dtype: jint,
    pub offset: jlong,
    pub shape: [jint; 3],
    pub strides: [jlong; 3],
}

/// What a view points to.
enum Pixels {
    Bytes(Vec<i8>),
    Shorts(Vec<i16>),
    Floats(Vec<f32>),
    /// Memory of a buffer that the caller's argument keeps alive.
    Direct(*const c_void, usize),
}

/// An image for the C library, with what it points to.
pub(crate) struct Pinned {
    pixels: Pixels,
    view: cellsparse_image,
}

impl Described<'_, '_> {
    pub fn pin(&self, env: &mut Env<'_>) -> Outcome<Pinned> {
        // The casts look the class up and refuse any other; local references last until the method returns.
        let object = env.new_local_ref(self.pixels)?;
        let pixels = if self.direct {
            let buffer = JByteBuffer::cast_local(env, object)?;
            Pixels::Direct(env.get_direct_buffer_address(&buffer)?.cast(), env.get_direct_buffer_capacity(&buffer)?)
        } else if self.dtype == cellsparse_dtype::U8 as jint {
            let array = JByteArray::cast_local(env, object)?;
            let mut values = vec![0; array.len(env)?];
            array.get_region(env, 0, &mut values)?;
            Pixels::Bytes(values)
        } else if self.dtype == cellsparse_dtype::U16 as jint {
            let array = JShortArray::cast_local(env, object)?;
            let mut values = vec![0; array.len(env)?];
            array.get_region(env, 0, &mut values)?;
            Pixels::Shorts(values)
        } else {
            let array = JFloatArray::cast_local(env, object)?;
            let mut values = vec![0.0; array.len(env)?];
            array.get_region(env, 0, &mut values)?;
            Pixels::Floats(values)
        };
        let [height, width, channels] = self.shape;
        let stride = |value: jlong| isize::try_from(value).map_err(|_| refuse(format!("a stride is {value}")));
        let view = cellsparse_image {
            data: std::ptr::null(),
            size: 0,
            offset: usize::try_from(self.offset).map_err(|_| refuse(format!("the offset is {}", self.offset)))?,
            dtype: u32::try_from(self.dtype).unwrap_or(0),
            height: size(height)?,
            width: size(width)?,
            channels: size(channels)?,
            row_stride: stride(self.strides[0])?,
            column_stride: stride(self.strides[1])?,
            channel_stride: stride(self.strides[2])?,
        };
        Ok(Pinned { pixels, view })
    }
}

impl Pinned {
    /// The view, valid as long as `self`.
    pub fn view(&self) -> cellsparse_image {
        let (data, size) = match &self.pixels {
            Pixels::Bytes(values) => (values.as_ptr().cast(), size_of_val(values.as_slice())),
            Pixels::Shorts(values) => (values.as_ptr().cast(), size_of_val(values.as_slice())),
            Pixels::Floats(values) => (values.as_ptr().cast(), size_of_val(values.as_slice())),
            Pixels::Direct(data, size) => (*data, *size),
        };
        cellsparse_image { data, size, ..self.view }
    }
}
