//! The words of an experiment: where a patch goes in, how two prompts are aligned, and which
//! way the activations travel. Names are those of the field (TransformerLens, pyvene).

/// What stands where a file does not say.
pub const UNKNOWN: &str = "unknown";

/// A word that is none of those a setting knows.
#[derive(Debug, thiserror::Error)]
#[error("`{found}` is no {setting}: expected one of {expected}")]
pub struct UnknownWord {
    pub(crate) setting: &'static str,
    pub(crate) found: String,
    pub(crate) expected: String,
}

/// An enum whose variants have one name each, used alike on the command line, in documents and
/// in links.
macro_rules! named {
    ($(#[doc = $text:literal])* $type:ident, $setting:literal { $($(#[$doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[doc = $text])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize,
            serde::Deserialize,
        )]
        pub enum $type {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl $type {
            /// Every variant, in the order of its documentation.
            pub const ALL: &[$type] = &[$($type::$variant),+];

            /// The name used on the command line, in documents and in links.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)+ }
            }
        }

        // What utoipa derives has the variants' own names.
        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                let text = [$($text),*].map(str::trim).join(" ");
                utoipa::openapi::schema::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some(text))
                    .enum_values(Some([$($name),+]))
                    .into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $type {}

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::specification::vocabulary::UnknownWord;

            fn from_str(word: &str) -> Result<Self, $crate::specification::vocabulary::UnknownWord> {
                Self::ALL.iter().copied().find(|v| v.name() == word).ok_or_else(|| $crate::specification::vocabulary::UnknownWord {
                    setting: $setting,
                    found: word.to_string(),
                    expected: Self::ALL.iter().map(|v| v.name()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}
pub(crate) use named;

/// Has serde write a type as its text and read it back: `From` and `TryFrom` a text by way of its
/// `Display` and `FromStr`.
macro_rules! as_text {
    ($type:ty) => {
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $type {
            type Error = <$type as std::str::FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    };
}
pub(crate) use as_text;

named! {
    /// The place in a decoder block whose activation is replaced, as TransformerLens defines it:
    /// what a sub-block adds to the residual stream counts after the norm that follows it, where
    /// there is one (Gemma 2, Gemma 3, OLMo 2). In the order in which a block computes them.
    Site, "site" {
        /// The residual stream before block `l`; at layer 0, the embedding.
        ResidPre = "resid_pre",
        /// The queries of block `l` by query head, as projected: before their norm, where there is
        /// one, and before they are rotated.
        Query = "q",
        /// The keys by key head, likewise.
        Key = "k",
        /// The values by key head.
        Value = "v",
        /// What each query head mixes of the values, before the output projection.
        Z = "z",
        /// What attention adds to the residual stream in block `l`.
        AttnOut = "attn_out",
        /// The residual stream between attention and MLP of block `l`. It does not exist where both
        /// read the same stream (GPT-J, GPT-NeoX with a parallel residual).
        ResidMid = "resid_mid",
        /// What the MLP adds to the residual stream in block `l`.
        MlpOut = "mlp_out",
        /// The residual stream after block `l`: the notebook's site and the default.
        #[default]
        ResidPost = "resid_post",
    }
}

named! {
    /// How two prompts of unequal length are laid against each other.
    Align, "alignment" {
        /// The shorter prompt is padded on the left with the pad token (the end-of-text token if
        /// there is none), and the padding is attended to: what the notebook does.
        #[default]
        Pad = "pad",
        /// Each prompt runs unpadded; positions correspond by their distance from the end.
        Right = "right",
        /// Each prompt runs unpadded; the tokens that both have correspond, and of what one has in
        /// place of the other, as many from the right as both have.
        Diff = "diff",
        /// Each prompt runs unpadded; the tokens of each role correspond, from the right.
        Role = "role",
        /// Each prompt runs unpadded; the column `align` of the table says what corresponds.
        Hand = "hand",
    }
}

named! {
    /// Which of a pair's two prompts supplies activations and which receives them
    /// (Heimersheim & Nanda, arXiv 2404.15255).
    Direction, "direction" {
        /// The table's source is patched into its base: tests sufficiency. The notebook's.
        #[default]
        Denoising = "denoising",
        /// The table's base is patched into its source: tests necessity.
        Noising = "noising",
    }
}

named! {
    /// The directions that an experiment has.
    Directions, "direction" {
        /// The source into the base.
        #[default]
        Denoising = "denoising",
        /// The base into the source.
        Noising = "noising",
        /// Both, a grid each.
        Both = "both",
    }
}

impl Directions {
    /// One by one.
    pub fn each(self) -> &'static [Direction] {
        match self {
            Self::Denoising => &[Direction::Denoising],
            Self::Noising => &[Direction::Noising],
            Self::Both => Direction::ALL,
        }
    }
}

named! {
    /// What the cells of a head site are.
    By, "way to divide a head site" {
        /// One head at all swept positions together: `[layer][head]`.
        #[default]
        Head = "head",
        /// One head at one position: `[layer][head][position]`.
        Position = "position",
    }
}

named! {
    /// Which positions of a prompt are patched together.
    Span, "set of positions" {
        /// Every swept position by itself.
        #[default]
        Each = "each",
        /// Those of the entity, wherever the prompt names it.
        Entity = "entity",
        /// Those at which the two prompts have different tokens.
        Differing = "differing",
        /// From the first token of either sentence to the last of it.
        Sentence = "sentence",
        /// All that are swept.
        All = "all",
    }
}

named! {
    /// What a patch writes.
    Written, "kind of patch" {
        /// The other prompt's activation.
        #[default]
        Source = "source",
        /// Zeros.
        Zero = "zero",
        /// The mean of the activation over the swept positions of all prompts of the table.
        Mean = "mean",
    }
}

impl Site {
    /// The sites of the residual stream and of what is added to it: vectors of `d_model` numbers.
    pub const STREAM: &[Self] =
        &[Self::ResidPre, Self::AttnOut, Self::ResidMid, Self::MlpOut, Self::ResidPost];

    /// Whether it divides into heads.
    pub fn has_heads(self) -> bool {
        matches!(self, Self::Query | Self::Key | Self::Value | Self::Z)
    }
}

named! {
    /// A kind of file that a result can be written as; the name is also the file name's extension.
    Format, "format" {
        /// The result document.
        #[default]
        Json = "json",
        /// One row per cell, see [`crate::field::cells`].
        Csv = "csv",
        /// The same rows in columns of numbers and texts, for pandas, polars and DuckDB.
        Parquet = "parquet",
        /// The figure in pixels, with its size on paper.
        Png = "png",
        /// The figure as vectors.
        Svg = "svg",
        /// The figure as vectors on a page of its size.
        Pdf = "pdf",
    }
}

impl Format {
    /// Whether it is a figure, and not what the figure shows.
    pub fn is_picture(self) -> bool {
        matches!(self, Self::Png | Self::Svg | Self::Pdf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_refused_with_the_choice() {
        for &site in Site::ALL {
            assert_eq!(site.name().parse::<Site>().unwrap(), site);
            assert_eq!(serde_json::to_string(&site).unwrap(), format!("{:?}", site.name()));
        }
        let error = "resid".parse::<Site>().unwrap_err().to_string();
        assert_eq!(
            error,
            "`resid` is no site: expected one of resid_pre, q, k, v, z, attn_out, resid_mid, \
             mlp_out, resid_post"
        );
        let error = "gif".parse::<Format>().unwrap_err().to_string();
        assert_eq!(error, "`gif` is no format: expected one of json, csv, parquet, png, svg, pdf");
    }
}
