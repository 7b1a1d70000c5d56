//! Images cut into square windows, with zeros beyond the right and the lower edge, and put together again.

use candle_core::Tensor;

use super::operations::Tensors;

/// A square image of `side` pixels in windows of `window` pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    pub(super) side: usize,
    pub(super) window: usize,
}

impl Windows {
    fn along(self) -> usize {
        self.side.div_ceil(self.window)
    }

    /// `[side * side, c]` as `[windows, window * window, c]`.
    pub(super) fn cut(self, x: &Tensor) -> Tensors<Tensor> {
        let (channels, along) = (x.dim(1)?, self.along());
        let beyond = along * self.window - self.side;
        let x = x.reshape((self.side, self.side, channels))?;
        let x = x.pad_with_zeros(0, 0, beyond)?.pad_with_zeros(1, 0, beyond)?;
        let x = x.reshape((along, self.window, along, self.window, channels))?.transpose(1, 2)?;
        x.contiguous()?.reshape((along * along, self.window * self.window, channels))
    }

    /// The reverse of [`cut`](Self::cut); what lies beyond the image is dropped.
    pub(super) fn join(self, x: &Tensor) -> Tensors<Tensor> {
        let (channels, along) = (x.dim(2)?, self.along());
        let x = x.reshape((along, along, self.window, self.window, channels))?.transpose(1, 2)?.contiguous()?;
        let padded = along * self.window;
        let x = x.reshape((padded, padded, channels))?.narrow(0, 0, self.side)?.narrow(1, 0, self.side)?;
        x.contiguous()?.reshape((self.side * self.side, channels))
    }
}
