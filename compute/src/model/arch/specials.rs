//! What only one family's configuration says.

use super::config::{Config, Residual};
use super::fields::Fields;
use super::rope::Rope;

/// Reads what only one family's configuration says, after everything else.
pub type Special = fn(&Fields, &mut Config) -> Result<(), String>;

/// A family whose configuration says nothing else.
pub fn nothing(_: &Fields, _: &mut Config) -> Result<(), String> {
    Ok(())
}

/// Gemma 2's scale of scores and its soft caps.
pub fn gemma2(fields: &Fields, config: &mut Config) -> Result<(), String> {
    let scalar = fields.positive("query_pre_attn_scalar")?;
    let scalar = fields.need("query_pre_attn_scalar", scalar)?;
    config.layers.iter_mut().for_each(|layer| layer.scale = 1.0 / (scalar as f32).sqrt());
    config.attn_softcap = fields.positive("attn_logit_softcapping")?.map(|cap| cap as f32);
    config.final_softcap = fields.positive("final_logit_softcapping")?.map(|cap| cap as f32);
    Ok(())
}

/// Gemma 3's second rotary embedding, for the layers that attend to a window.
pub fn gemma3(fields: &Fields, config: &mut Config) -> Result<(), String> {
    gemma2(fields, config)?;
    let nested = fields.nested("rope_parameters")?;
    let local = nested.as_ref().map(|nested| nested.nested("sliding_attention"));
    let local = local.transpose()?.flatten();
    if nested.is_some() && local.is_none() {
        return Err("`rope_parameters` has no `sliding_attention`".into());
    }
    if let Some(local) = &local {
        local.expect("rope_type", r#"["default"]"#)?;
    }
    let theta = local.map(|local| local.positive("rope_theta")).transpose()?.flatten();
    let theta = theta.or(fields.positive("rope_local_base_freq")?);
    let theta = fields.need("rope_local_base_freq", theta)?;
    config.ropes.push(Rope::plain(theta, config.d_head));
    for layer in config.layers.iter_mut().filter(|layer| layer.window.is_some()) {
        layer.rope = Some(1);
    }
    Ok(())
}

/// GPT-2's two switches of the scale of scores.
pub fn gpt2(fields: &Fields, config: &mut Config) -> Result<(), String> {
    let by_width = fields.flag("scale_attn_weights")?.unwrap_or(true);
    let by_layer = fields.flag("scale_attn_by_inverse_layer_idx")?.unwrap_or(false);
    for (i, layer) in config.layers.iter_mut().enumerate() {
        layer.scale = if by_width { layer.scale } else { 1.0 };
        layer.scale /= if by_layer { (i + 1) as f32 } else { 1.0 };
    }
    Ok(())
}

/// Some models of the Pythia kind were trained with a serial residual.
pub fn gpt_neox(fields: &Fields, config: &mut Config) -> Result<(), String> {
    if fields.flag("use_parallel_residual")? == Some(false) {
        config.spec.residual = Residual::Serial;
    }
    Ok(())
}

/// OPT-350m's embeddings are narrower than its residual stream.
pub fn opt(fields: &Fields, config: &mut Config) -> Result<(), String> {
    match fields.size("word_embed_proj_dim")? {
        Some(found) if found != config.d_model => Err(format!(
            "`word_embed_proj_dim` is {found} and `hidden_size` {}: embeddings of another width \
             than the residual stream are not supported",
            config.d_model
        )),
        _ => Ok(()),
    }
}
