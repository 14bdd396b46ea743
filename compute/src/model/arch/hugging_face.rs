//! Reads a Hugging Face `config.json`.
//!
//! What is not known to be computed rightly is refused by name, never run wrongly.

use serde_json::{Map, Value};

use super::config::{Activation, Biases, Config, Layer};
use super::family::{ALWAYS_EXPECTED, Family, WindowRule};
use super::fields::Fields;
use super::layout::{HeadLayout, WeightLayout};
use super::rope::{Rope, RopeScaling};

/// Reads the text of a `config.json`: the model, and where its checkpoint keeps the weights.
///
/// # Errors
/// A sentence that names the field to blame.
pub fn parse(text: &str) -> Result<(Config, WeightLayout), String> {
    let mut object: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
    // A model that also sees keeps its language model's settings one level down.
    if object.get("model_type").is_some_and(|kind| kind == "gemma3")
        && let Some(Value::Object(text_config)) = object.get("text_config").cloned()
    {
        object = text_config;
        object.insert("model_type".into(), "gemma3_text".into());
    }
    let name = match object.get("model_type").and_then(Value::as_str) {
        Some(name) => name,
        None => return Err("`model_type` is missing, which names the model family".into()),
    };
    let family = Family::named(name).ok_or_else(|| {
        format!("the model family is `{name}`: only {} are supported", Family::list())
    })?;
    add_defaults(&mut object, family);
    let fields = Fields::new(&object, family.aliases);
    for &(name, values) in family.expects.iter().chain(ALWAYS_EXPECTED) {
        fields.expect(name, values)?;
    }
    let config = config(family, &fields)?.checked()?;
    let layout = WeightLayout {
        roots: family.roots,
        names: family.names.to_vec(),
        qkv: family.qkv,
        gate_stacked: family.gate_stacked,
        transposed: family.transposed,
        norm_offset: family.norm_offset,
        position_offset: family.position_offset,
        heads: HeadLayout::new(&config, family.pairs),
    };
    Ok((config, layout))
}

fn add_defaults(object: &mut Map<String, Value>, family: &Family) {
    let defaults: Map<String, Value> = serde_json::from_str(family.defaults).unwrap_or_default();
    for (name, value) in defaults {
        let alias = family.aliases.iter().find(|(common, _)| *common == name);
        let is_there = |name: &str| object.contains_key(name);
        if !is_there(&name) && !alias.is_some_and(|(_, alias)| is_there(alias)) {
            object.insert(name, value);
        }
    }
}

fn config(family: &Family, fields: &Fields) -> Result<Config, String> {
    let need = |name| fields.need(name, fields.size(name)?);
    let (n_heads, d_model) = (need("num_attention_heads")?, need("hidden_size")?);
    let d_head = match fields.size("head_dim")? {
        Some(d_head) => d_head,
        None if d_model.is_multiple_of(n_heads) => d_model / n_heads,
        None => return Err(format!("{n_heads} heads do not divide a width of {d_model}")),
    };
    let mut spec = family.spec;
    if let Some(name) = fields.text("hidden_act")? {
        spec.activation = activation(family, fields.name("hidden_act"), name)?;
    }
    if family.reads_attention_bias {
        if let Some(bias) = fields.flag("attention_bias")? {
            spec.biases = Biases { qkv: bias, attn_out: bias, ..spec.biases };
        }
    } else if !family.expects.iter().any(|(name, _)| *name == "attention_bias") {
        fields.expect("attention_bias", "[false]")?;
    }
    match family.reads_mlp_bias {
        true => spec.biases.mlp = fields.flag("mlp_bias")?.unwrap_or(spec.biases.mlp),
        false => fields.expect("mlp_bias", "[false]")?,
    }
    let mut config = Config {
        architecture: family.name,
        n_layers: need("num_hidden_layers")?,
        d_model,
        n_heads,
        n_kv_heads: fields.size("num_key_value_heads")?.unwrap_or(n_heads),
        d_head,
        d_mlp: match fields.size("intermediate_size")? {
            // GPT-2 and GPT-J leave it out where it is this.
            None if !spec.gated => 4 * d_model,
            size => fields.need("intermediate_size", size)?,
        },
        d_vocab: need("vocab_size")?,
        n_context: need("max_position_embeddings")?,
        spec,
        norm_eps: fields.need("rms_norm_eps", fields.positive("rms_norm_eps")?)? as f32,
        embed_scale: if family.scales_embedding { (d_model as f32).sqrt() } else { 1.0 },
        tied_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        ..Config::LLAMA
    };
    let windows = windows(family.window, fields, config.n_layers)?;
    if !spec.learned_positions {
        let scaling = fields.nested("rope_scaling")?;
        let mut nested = fields.nested("rope_parameters")?.or(scaling);
        // One embedding for each type of layer: that of the layers which see everything.
        if let Some(full) = nested.as_ref().map(|nested| nested.nested("full_attention")) {
            nested = full?.or(nested);
        }
        let rope = rope(family, fields, nested.as_ref(), &mut config)?;
        config.ropes.push(rope);
    }
    let rope = (!spec.learned_positions).then_some(0);
    let scale = 1.0 / (d_head as f32).sqrt();
    config.layers = windows.into_iter().map(|window| Layer { window, rope, scale }).collect();
    (family.special)(fields, &mut config)?;
    Ok(config)
}

fn activation(family: &Family, key: &str, name: &str) -> Result<Activation, String> {
    Ok(match name {
        "silu" | "swish" => Activation::Silu,
        // The first Gemma configurations say this and mean the approximation.
        "gelu" if family.name == "gemma" => Activation::GeluTanh,
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        "relu" => Activation::Relu,
        other => {
            return Err(format!(
                "`{key}` is \"{other}\": only silu, gelu, gelu_new, gelu_pytorch_tanh and \
                 relu are supported"
            ));
        }
    })
}

/// Each layer's window.
fn windows(
    rule: WindowRule,
    fields: &Fields,
    n_layers: usize,
) -> Result<Vec<Option<usize>>, String> {
    let is_on = match rule {
        WindowRule::Never => false,
        WindowRule::All | WindowRule::AllButEvery(_) => true,
        WindowRule::Late => fields.flag("use_sliding_window")?.unwrap_or(false),
    };
    let size = if is_on { fields.size("sliding_window")? } else { None };
    let first = fields.whole("max_window_layers")?.unwrap_or(0);
    let every = fields.size("sliding_window_pattern")?;
    let by_rule = |layer: usize| match rule {
        WindowRule::Never => false,
        WindowRule::All => size.is_some(),
        WindowRule::Late => size.is_some() && layer >= first,
        WindowRule::AllButEvery(n) => !(layer + 1).is_multiple_of(every.unwrap_or(n)),
    };
    let slides: Vec<bool> = match fields.texts("layer_types")? {
        None => (0..n_layers).map(by_rule).collect(),
        Some(types) => types
            .iter()
            .map(|kind| match kind.as_str() {
                "full_attention" => Ok(false),
                "sliding_attention" => Ok(true),
                other => Err(format!(
                    "`layer_types` has `{other}`: only full_attention and sliding_attention are \
                     supported"
                )),
            })
            .collect::<Result<_, _>>()?,
    };
    if slides.len() != n_layers {
        return Err(format!("`layer_types` has {} entries for {n_layers} layers", slides.len()));
    }
    let window = |slides| match (slides, size) {
        (true, None) => Err("`sliding_window` is missing, and layers attend to it".to_string()),
        (true, size) => Ok(size),
        (false, _) => Ok(None),
    };
    slides.into_iter().map(window).collect()
}

/// Either `rope_theta` with `rope_scaling`, or transformers 5's `rope_parameters`, which holds
/// both.
fn rope(
    family: &Family,
    fields: &Fields,
    nested: Option<&Fields>,
    config: &mut Config,
) -> Result<Rope, String> {
    let empty = Map::new();
    let empty = Fields::new(&empty, &[]);
    let nested = nested.unwrap_or(&empty);
    let theta = nested.positive("rope_theta")?.or(fields.positive("rope_theta")?);
    let share = nested.positive("partial_rotary_factor")?;
    let share = share.or(fields.positive("partial_rotary_factor")?).unwrap_or(1.0);
    if share != 1.0 && !family.rotates_partially {
        return Err(format!("`partial_rotary_factor` is {share}: only 1 is supported"));
    }
    let n_rotated = (config.d_head as f64 * share) as usize;
    // GPT-J's name for it, a count.
    let n_rotated = fields.size("rotary_dim")?.unwrap_or(n_rotated);
    let number = |name| nested.need(name, nested.positive(name)?);
    let kind = match nested.text("rope_type")? {
        Some(kind) => Some(kind),
        None => nested.text("type")?,
    };
    let mut magnitude = 1.0;
    let scaling = match kind {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear(number("factor")?),
        Some("llama3") => RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_context: number("original_max_position_embeddings")?,
        },
        // Phi-3's first configurations call it `su`.
        Some("longrope" | "su") if family.name == "phi3" => {
            let original = match fields.size("original_max_position_embeddings")? {
                Some(original) => original,
                None => {
                    let key = "original_max_position_embeddings";
                    nested.need(key, nested.size(key)?)?
                }
            };
            let factor = nested.positive("factor")?;
            let factor = factor.unwrap_or(config.n_context as f64 / original as f64);
            magnitude = match nested.positive("attention_factor")? {
                Some(given) => given as f32,
                None if factor <= 1.0 => 1.0,
                None => (1.0 + factor.ln() / (original as f64).ln()).sqrt() as f32,
            };
            // Beyond the original context all positions, the first ones too, take other factors:
            // two runs of a sweep might disagree about them.
            config.n_context = config.n_context.min(original);
            RopeScaling::Divisors(nested.need("short_factor", nested.numbers("short_factor")?)?)
        }
        Some(other) => {
            return Err(format!(
                "the rotary scaling is `{other}`: only default, linear and llama3, and longrope \
                 for phi3, are supported"
            ));
        }
    };
    Ok(Rope { theta: theta.unwrap_or(10_000.0), n_rotated, scaling, magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA_3_1_8B: &str = r#"{"model_type": "llama", "hidden_act": "silu", "hidden_size": 4096,
        "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": false,
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "vocab_size": 128256, "rope_scaling":
        {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3"}}"#;

    fn config(text: &str) -> Result<Config, String> {
        parse(text).map(|(config, _)| config)
    }

    /// `config.json` of published models as copies of them are found in public repositories, and
    /// how many numbers their weights are. OPT's two unused rows of positions do not count, nor
    /// what Gemma 3 sees with.
    #[test]
    fn published_models_have_their_size() {
        let all: Map<String, Value> =
            serde_json::from_str(include_str!("../../../tests/published.json")).unwrap();
        for (name, model) in &all {
            let found = config(&model["config"].to_string());
            match (found, model["n_weights"].as_u64(), model["refused"].as_str()) {
                (Ok(config), Some(n), None) => {
                    assert_eq!(config.n_weights() as u64, n, "{name}");
                }
                (Err(error), None, Some(why)) => assert!(error.contains(why), "{name}: {error}"),
                (found, ..) => panic!("{name}: {:?}", found.err()),
            }
        }
    }

    #[test]
    fn reads_both_forms_of_rotary_settings() {
        let llama = config(LLAMA_3_1_8B).unwrap();
        assert_eq!((llama.d_head, llama.n_groups(), llama.tied_embeddings), (128, 4, false));
        let nested = LLAMA_3_1_8B
            .replace("\"rope_theta\": 500000.0,", "")
            .replace("rope_scaling", "rope_parameters")
            .replace("\"factor\"", "\"rope_theta\": 500000.0, \"factor\"");
        assert_eq!(config(&nested).unwrap(), llama);
    }

    #[test]
    fn the_text_part_of_a_model_that_sees_is_read() {
        // As of the published gemma-3-4b-it.
        let text = r#"{"model_type": "gemma3", "text_config": {"hidden_size": 2560,
            "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}}"#;
        let gemma = config(text).unwrap();
        assert_eq!((gemma.n_heads, gemma.n_kv_heads, gemma.d_head), (8, 4, 256));
        assert_eq!((gemma.layers[4].window, gemma.layers[5].window), (Some(1024), None));
        assert_eq!((gemma.layers[4].rope, gemma.layers[5].rope), (Some(1), Some(0)));
        assert_eq!(gemma.ropes[0].scaling, RopeScaling::Linear(8.0));
        assert_eq!((gemma.ropes[0].theta, gemma.ropes[1].theta), (1e6, 1e4));
    }

    #[test]
    fn a_familys_own_name_of_a_setting_counts() {
        // As of the published gemma-2-2b, which has both names.
        let gemma = format!(
            "{{\"model_type\": \"gemma2\", {DIMENSIONS}, \"hidden_act\": \"relu\", \
             \"hidden_activation\": \"gelu_pytorch_tanh\"}}"
        );
        assert_eq!(config(&gemma).unwrap().spec.activation, Activation::GeluTanh);
    }

    /// Dimensions, for configurations of which only the rest matters.
    const DIMENSIONS: &str = r#""hidden_size": 64, "intermediate_size": 64,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 32, "max_position_embeddings": 64"#;

    #[test]
    fn refuses_by_name_what_it_would_compute_wrongly() {
        let llama = [
            ("\"llama\"", "\"mixtral\"", "the model family is `mixtral`: only llama, mistral,"),
            ("\"silu\"", "\"mish\"", "`hidden_act` is \"mish\": only silu, gelu,"),
            ("\"mlp_bias\": false", "\"mlp_bias\": 1", "`mlp_bias` should be true or false"),
            ("\"llama3\"", "\"yarn\"", "the rotary scaling is `yarn`"),
            ("\"llama3\"", "\"longrope\"", "the rotary scaling is `longrope`"),
            ("4096", "-1", "`hidden_size` should be a positive integer, found -1"),
            ("\"vocab_size\"", "\"x\"", "`vocab_size` is missing"),
            ("\"num_key_value_heads\": 8", "\"num_key_value_heads\": 5", "32 query heads do not"),
            ("{\"model_type\"", "\"model_type\"", "not a JSON object"),
        ];
        let others = [
            ("llama", "\"sliding_window\": 128", "`sliding_window` is 128, which is not supported"),
            ("llama", "\"partial_rotary_factor\": 0.5", "`partial_rotary_factor` is 0.5"),
            ("llama", "\"quantization_config\": {\"bits\": 4}", "`quantization_config` is"),
            ("llama", "\"num_local_experts\": 8", "`num_local_experts` is 8"),
            ("mistral", "\"layer_types\": [\"full_attention\"]", "`layer_types` is"),
            ("qwen2", "\"use_mrope\": true", "`use_mrope` is true"),
            (
                "qwen3",
                "\"layer_types\": [\"full_attention\"]",
                "`layer_types` has 1 entries for 4 layers",
            ),
            ("gemma2", "\"layer_types\": [\"chunked_attention\"]", "has `chunked_attention`"),
            ("gemma2", "\"use_bidirectional_attention\": true", "`use_bidirectional_attention` is"),
            ("gemma2", "\"sliding_window\": null", "`sliding_window` is missing, and layers"),
            ("gemma3_text", "\"attn_logit_softcapping\": 50.0", "`attn_logit_softcapping` is 50.0"),
            (
                "phi3",
                "\"rope_scaling\": {\"type\": \"dynamic\"}",
                "the rotary scaling is `dynamic`",
            ),
            (
                "phi3",
                "\"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1.0]}",
                "the rotary scaling has 1 factors: expected 8",
            ),
            ("olmo2", "\"clip_qkv\": 8.0", "`clip_qkv` is 8.0"),
            ("gpt2", "\"add_cross_attention\": true", "`add_cross_attention` is true"),
            ("gpt_neox", "\"rotary_pct\": 0.2", "3 of 16 coordinates of a head are rotated"),
            ("opt", "\"do_layer_norm_before\": false", "`do_layer_norm_before` is false"),
            ("opt", "\"word_embed_proj_dim\": 32", "`word_embed_proj_dim` is 32"),
            ("opt", "\"activation_function\": \"mish\"", "`activation_function` is \"mish\""),
            ("llama", "\"rope_scaling\": \"linear\"", "`rope_scaling` should be an object"),
            ("llama", "\"rope_parameters\": [1]", "`rope_parameters` should be an object"),
            (
                "gemma3_text",
                "\"rope_parameters\": {\"sliding_attention\": 1, \"full_attention\": {}}",
                "`sliding_attention` should be an object",
            ),
            ("llama", "\"rope_theta\": 0", "`rope_theta` should be a positive number, found 0"),
            ("llama", "\"rope_theta\": -1.5", "`rope_theta` should be a positive number"),
            ("llama", "\"rope_theta\": \"1e4\"", "`rope_theta` should be a positive number"),
            (
                "llama",
                "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}",
                "`factor` should be a positive number, found 0",
            ),
            (
                "llama",
                "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 1e300}",
                "`factor` should be a positive number",
            ),
            (
                "llama",
                "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4,
                    \"high_freq_factor\": 1, \"original_max_position_embeddings\": 64}",
                "`high_freq_factor` should be more than `low_freq_factor`",
            ),
            (
                "phi3",
                "\"rope_scaling\": {\"type\": \"su\", \"short_factor\":
                    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]}",
                "the rotary scaling has the factor 0: expected positive numbers",
            ),
            (
                "phi3",
                "\"original_max_position_embeddings\": 32, \"rope_scaling\": {\"type\": \"su\",
                    \"attention_factor\": -1, \"short_factor\": [1, 1, 1, 1, 1, 1, 1, 1]}",
                "`attention_factor` should be a positive number",
            ),
            ("llama", "\"rms_norm_eps\": -1e-5", "`rms_norm_eps` should be a positive number"),
            ("gemma2", "\"query_pre_attn_scalar\": 0", "`query_pre_attn_scalar` should be a positive"),
            ("gemma2", "\"final_logit_softcapping\": 0", "`final_logit_softcapping` should be a pos"),
            ("qwen2", "\"max_window_layers\": -1", "`max_window_layers` should be a whole number"),
            ("llama", "\"partial_rotary_factor\": 0", "`partial_rotary_factor` should be a positive"),
        ];
        let llama =
            llama.map(|(from, to, expected)| (LLAMA_3_1_8B.replacen(from, to, 1), expected));
        let others = others.map(|(family, more, expected)| {
            (format!("{{\"model_type\": \"{family}\", {DIMENSIONS}, {more}}}"), expected)
        });
        for (text, expected) in llama.into_iter().chain(others) {
            let error = config(&text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
