//! A model's dimensions and conventions, read from `config.json` or from a GGUF's metadata.
//!
//! What is not known to be computed rightly is refused by name, never run wrongly.

use serde_json::{Map, Value};

/// The dimensions and conventions of a decoder-only model of the llama architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Decoder blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub d_head: usize,
    /// Width of the MLP's hidden layer.
    pub d_mlp: usize,
    /// Vocabulary size.
    pub d_vocab: usize,
    /// The longest prompt, in tokens.
    pub n_context: usize,
    /// Added to the mean square in RMS norm.
    pub norm_eps: f32,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Whether the unembedding is the embedding.
    pub tied_embeddings: bool,
}

/// Rotary position embedding: base frequency and scaling.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The base of the wavelengths.
    pub theta: f64,
    /// How the frequencies are changed for long contexts.
    pub scaling: RopeScaling,
}

/// How rotary frequencies are changed for long contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All divided by one factor.
    Linear(f64),
    /// Llama 3's: long wavelengths divided by `factor`, short ones kept, a ramp between
    /// (transformers `_compute_llama3_parameters`).
    Llama3 {
        /// The divisor of the long wavelengths.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are long.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are short.
        high_freq_factor: f64,
        /// The context length before the extension.
        original_context: f64,
    },
    /// One divisor a frequency, `[d_head / 2]` (GGUF's `rope_freqs.weight`).
    Divisors(Vec<f32>),
}

/// The architecture's name in Hugging Face configs and in GGUF alike.
pub const ARCHITECTURE: &str = "llama";

/// The fields of one JSON object, read with errors that name the field.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn present(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn number(&self, name: &str) -> Result<Option<f64>, String> {
        self.present(name)
            .map(|v| v.as_f64().ok_or(format!("`{name}` should be a number, found {v}")))
            .transpose()
    }

    fn size(&self, name: &str) -> Result<Option<usize>, String> {
        let size = |v: &Value| v.as_u64().filter(|n| (1..=1 << 31).contains(n)).map(|n| n as usize);
        self.present(name)
            .map(|v| size(v).ok_or(format!("`{name}` should be a positive integer, found {v}")))
            .transpose()
    }

    fn need<T>(&self, name: &str, value: Option<T>) -> Result<T, String> {
        value.ok_or(format!("`{name}` is missing"))
    }

    /// Refuses a setting that is present and not the one that is computed.
    fn expect(&self, name: &str, supported: &[Value]) -> Result<(), String> {
        match self.present(name) {
            Some(found) if !supported.contains(found) => {
                let supported: Vec<_> = supported.iter().map(Value::to_string).collect();
                let supported = supported.join(" or ");
                Err(format!("`{name}` is {found}: only {supported} is supported"))
            }
            _ => Ok(()),
        }
    }
}

impl Config {
    /// Reads the text of a Hugging Face `config.json`.
    ///
    /// # Errors
    /// A sentence that names the field to blame.
    pub fn from_hugging_face(text: &str) -> Result<Self, String> {
        let object: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
        let fields = Fields(&object);
        match fields.present("model_type").and_then(Value::as_str) {
            Some(ARCHITECTURE) => {}
            Some(found) => {
                return Err(format!(
                    "the model family is `{found}`: only `{ARCHITECTURE}` is supported"
                ));
            }
            None => return Err("`model_type` is missing, which names the model family".into()),
        }
        fields.expect("hidden_act", &["silu".into()])?;
        fields.expect("attention_bias", &[false.into()])?;
        fields.expect("mlp_bias", &[false.into()])?;
        fields.expect("partial_rotary_factor", &[1.0.into(), 1.into()])?;
        let n_heads = fields.need("num_attention_heads", fields.size("num_attention_heads")?)?;
        let d_model = fields.need("hidden_size", fields.size("hidden_size")?)?;
        Self {
            n_layers: fields.need("num_hidden_layers", fields.size("num_hidden_layers")?)?,
            d_model,
            n_heads,
            n_kv_heads: fields.size("num_key_value_heads")?.unwrap_or(n_heads),
            d_head: fields.size("head_dim")?.unwrap_or(d_model / n_heads),
            d_mlp: fields.need("intermediate_size", fields.size("intermediate_size")?)?,
            d_vocab: fields.need("vocab_size", fields.size("vocab_size")?)?,
            n_context: fields
                .need("max_position_embeddings", fields.size("max_position_embeddings")?)?,
            norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            rope: Rope::from_hugging_face(&fields)?,
            tied_embeddings: fields
                .present("tie_word_embeddings")
                .and_then(Value::as_bool)
                .unwrap_or(false),
        }
        .checked()
    }

    /// Refuses dimensions that do not fit each other.
    pub(super) fn checked(self) -> Result<Self, String> {
        let Self { n_heads, n_kv_heads, d_head, .. } = self;
        if !n_heads.is_multiple_of(n_kv_heads) {
            return Err(format!(
                "{n_heads} query heads do not divide among {n_kv_heads} key heads"
            ));
        }
        if d_head == 0 || !d_head.is_multiple_of(2) {
            return Err(format!("heads of width {d_head}: rotary embedding needs an even width"));
        }
        Ok(self)
    }

    /// Query heads a key head: `n_heads / n_kv_heads`.
    pub fn n_groups(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }
}

impl Rope {
    /// Either `rope_theta` with `rope_scaling`, or transformers 5's `rope_parameters`, which holds
    /// both.
    fn from_hugging_face(fields: &Fields) -> Result<Self, String> {
        let nested = fields.present("rope_parameters").or_else(|| fields.present("rope_scaling"));
        let nested = nested.and_then(Value::as_object).cloned().unwrap_or_default();
        let nested = Fields(&nested);
        let theta = nested.number("rope_theta")?.or(fields.number("rope_theta")?);
        nested.expect("partial_rotary_factor", &[1.0.into(), 1.into()])?;
        let number = |name| nested.need(name, nested.number(name)?);
        let kind = nested.present("rope_type").or_else(|| nested.present("type"));
        let scaling = match kind.and_then(Value::as_str) {
            None | Some("default") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear(number("factor")?),
            Some("llama3") => RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_context: number("original_max_position_embeddings")?,
            },
            Some(other) => {
                return Err(format!(
                    "the rotary scaling is `{other}`: only default, linear and llama3 are supported"
                ));
            }
        };
        Ok(Self { theta: theta.unwrap_or(10_000.0), scaling })
    }

    /// Radians a position for each pair of coordinates, `[d_head / 2]`.
    pub fn frequencies(&self, d_head: usize) -> Vec<f32> {
        (0..d_head / 2)
            .map(|i| {
                let frequency = self.theta.powf(-2.0 * i as f64 / d_head as f64);
                let scaled = match &self.scaling {
                    RopeScaling::None => frequency,
                    RopeScaling::Linear(factor) => frequency / factor,
                    RopeScaling::Divisors(divisors) => frequency / f64::from(divisors[i]),
                    &RopeScaling::Llama3 {
                        factor,
                        low_freq_factor,
                        high_freq_factor,
                        original_context,
                    } => {
                        let wavelength = 2.0 * std::f64::consts::PI / frequency;
                        let kept = (original_context / wavelength - low_freq_factor)
                            / (high_freq_factor - low_freq_factor);
                        let kept = kept.clamp(0.0, 1.0);
                        (1.0 - kept) * frequency / factor + kept * frequency
                    }
                };
                scaled as f32
            })
            .collect()
    }
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

    #[test]
    fn reads_both_forms_of_rotary_settings() {
        let config = Config::from_hugging_face(LLAMA_3_1_8B).unwrap();
        assert_eq!((config.d_head, config.n_groups(), config.tied_embeddings), (128, 4, false));
        let nested = LLAMA_3_1_8B
            .replace("\"rope_theta\": 500000.0,", "")
            .replace("rope_scaling", "rope_parameters")
            .replace("\"factor\"", "\"rope_theta\": 500000.0, \"factor\"");
        assert_eq!(Config::from_hugging_face(&nested).unwrap(), config);
    }

    #[test]
    fn llama3_scaling_divides_long_wavelengths_and_keeps_short_ones() {
        let rope = Config::from_hugging_face(LLAMA_3_1_8B).unwrap().rope;
        let plain = Rope { theta: rope.theta, scaling: RopeScaling::None }.frequencies(128);
        let scaled = rope.frequencies(128);
        assert_eq!((plain[0], scaled[0]), (1.0, 1.0));
        assert!((plain[63] / scaled[63] - 8.0).abs() < 1e-5);
        let between = plain[32] / scaled[32];
        assert!((1.0..8.0).contains(&between), "{between}");
    }

    #[test]
    fn refuses_by_name_what_it_would_compute_wrongly() {
        let cases = [
            ("\"llama\"", "\"mixtral\"", "the model family is `mixtral`"),
            ("\"silu\"", "\"gelu\"", "`hidden_act` is \"gelu\": only \"silu\" is supported"),
            ("\"mlp_bias\": false", "\"mlp_bias\": true", "`mlp_bias` is true"),
            ("\"llama3\"", "\"yarn\"", "the rotary scaling is `yarn`"),
            ("4096", "-1", "`hidden_size` should be a positive integer, found -1"),
            ("\"vocab_size\"", "\"x\"", "`vocab_size` is missing"),
            ("\"num_key_value_heads\": 8", "\"num_key_value_heads\": 5", "32 query heads do not"),
            ("{\"model_type\"", "\"model_type\"", "not a JSON object"),
        ];
        for (from, to, expected) in cases {
            let text = LLAMA_3_1_8B.replacen(from, to, 1);
            let error = Config::from_hugging_face(&text).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
