//! The oracle: one full forward pass a cell, as the notebook does it.

use candle_core::{Result, Tensor};
use shared::vocabulary::Site;

use super::metric::{self, Reading};
use super::{Cell, Request};
use crate::model::{Network, Outputs, Rotary, Span};

/// Runs `tokens` through the whole network. `hook` sees every activation `[tokens, d_model]` and
/// returns it, changed or not. Returns the final residual stream of the last position,
/// `[1, d_model]`.
///
/// # Errors
/// What candle reports.
pub fn forward(
    network: &Network,
    tokens: &[u32],
    mut hook: impl FnMut(usize, Site, Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let rotary = Rotary::new(&network.config, tokens.len(), &network.placement)?;
    let spans = [Span { start: 0, len: tokens.len() }];
    let mut x = network.embed(tokens)?;
    for (layer, block) in network.blocks().enumerate() {
        let block = block?;
        x = hook(layer, Site::ResidPre, x)?;
        let attn_out = block.attend(&x, &rotary, &spans, None, Outputs::All)?.attn_out;
        let attn_out = hook(layer, Site::AttnOut, attn_out)?;
        let mut mid = (&x + attn_out)?;
        if network.config.has_site(Site::ResidMid) {
            mid = hook(layer, Site::ResidMid, mid)?;
        }
        let mlp_out = hook(layer, Site::MlpOut, block.mlp(&x, &mid)?)?;
        x = hook(layer, Site::ResidPost, (&mid + mlp_out)?)?;
    }
    x.narrow(0, tokens.len() - 1, 1)
}

/// Reads an unpatched run.
///
/// # Errors
/// What candle reports.
pub fn baseline(network: &Network, tokens: &[u32], request: &Request) -> Result<Reading> {
    let x = forward(network, tokens, |_, _, activation| Ok(activation))?;
    Ok(metric::read(network, x, request)?[0])
}

/// The source run's activations at the request's site, one `[tokens, d_model]` a layer.
///
/// # Errors
/// What candle reports.
pub fn source_activations(network: &Network, request: &Request) -> Result<Vec<Tensor>> {
    let mut activations = Vec::with_capacity(network.config.n_layers);
    forward(network, &request.alignment.source, |_, site, activation| {
        if site == request.site {
            activations.push(activation.clone());
        }
        Ok(activation)
    })?;
    Ok(activations)
}

/// Runs one cell.
///
/// # Errors
/// What candle reports.
pub fn cell(
    network: &Network,
    request: &Request,
    source_activations: &[Tensor],
    cell: Cell,
) -> Result<Reading> {
    let from = request.alignment.source_position(cell.position);
    let patch = source_activations[cell.layer].narrow(0, from, 1)?;
    let x = forward(network, &request.alignment.base, |layer, site, activation| {
        if (layer, site) != (cell.layer, request.site) {
            return Ok(activation);
        }
        let after = cell.position + 1;
        let kept = [
            activation.narrow(0, 0, cell.position)?,
            patch.clone(),
            activation.narrow(0, after, activation.dim(0)? - after)?,
        ];
        Tensor::cat(&kept, 0)
    })?;
    Ok(metric::read(network, x, request)?[0])
}
