//! Row numbers that are needed on the device. They are collected on the host and sent there at once.

use candle_core::{Device, Result, Tensor};

/// Some consecutive numbers of [`Indices`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slice {
    start: usize,
    len: usize,
}

impl Slice {
    /// How many numbers there are.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The first `len` of them.
    pub fn first(self, len: usize) -> Self {
        Self { len, ..self }
    }
}

/// Numbers that are collected.
#[derive(Debug, Clone, Default)]
pub struct Indices(Vec<u32>);

impl Indices {
    /// Adds numbers.
    pub fn add(&mut self, numbers: impl IntoIterator<Item = usize>) -> Slice {
        let start = self.0.len();
        self.0.extend(numbers.into_iter().map(|number| number as u32));
        Slice { start, len: self.0.len() - start }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends them to a device.
    ///
    /// # Errors
    /// What candle reports.
    pub fn upload(&self, device: &Device) -> Result<Uploaded> {
        // candle has no empty tensors to narrow.
        let numbers = if self.0.is_empty() { &[0][..] } else { &self.0 };
        Ok(Uploaded(Tensor::new(numbers, device)?))
    }
}

/// Numbers on a device.
#[derive(Debug)]
pub struct Uploaded(Tensor);

impl Uploaded {
    /// Some of them, `[len]` u32.
    ///
    /// # Errors
    /// What candle reports.
    pub fn get(&self, slice: Slice) -> Result<Tensor> {
        self.0.narrow(0, slice.start, slice.len)
    }

    /// The rows of `x` `[rows, width]` that they name, `[len, width]`.
    ///
    /// # Errors
    /// No rows, which a GPU cannot be asked for, or what candle reports.
    pub fn select(&self, x: &Tensor, slice: Slice) -> Result<Tensor> {
        if slice.is_empty() {
            candle_core::bail!("no rows are to be selected")
        }
        x.index_select(&self.get(slice)?, 0)
    }
}
