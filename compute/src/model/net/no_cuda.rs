//! In place of [`Kernels::Cuda`](crate::model::Kernels::Cuda) where the program was built without it.

use candle_core::{Result, Tensor};

use super::attention::{Heads, KeysValues};
use super::device_spans::Places;
use super::indices::Uploaded;
use crate::model::arch::Activation;

/// Attention.
///
/// # Errors
/// Always.
pub fn attend(
    _: &Tensor,
    _: Option<&KeysValues>,
    _: Option<&KeysValues>,
    _: (Places, &Uploaded),
    _: Heads,
) -> Result<Tensor> {
    missing()
}

/// A norm.
///
/// # Errors
/// Always.
pub fn norm(_: &Tensor, _: &Tensor, _: Option<&Tensor>, _: f32) -> Result<Tensor> {
    missing()
}

/// A gate.
///
/// # Errors
/// Always.
pub fn gated(_: &Tensor, _: &Tensor, _: Activation) -> Result<Tensor> {
    missing()
}

fn missing() -> Result<Tensor> {
    candle_core::bail!("this program was built without the feature `cuda`")
}
