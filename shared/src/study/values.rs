//! The single pairs' values, in a file beside the manifest.
//!
//! The file is a [safetensors](https://github.com/huggingface/safetensors) file, which numpy reads
//! (`safetensors.numpy.load_file`). For each grid and metric it has an array of little-endian `f32`,
//! `grids.0.logit_diff`, with the axes `[column, layer]` or `[column, layer, head]`; NaN is no value.
//! Columns are those of all pairs one after the other, in the order of [`Study::pairs`]: of a grid of
//! roles, the receiving prompt's swept positions; of one of sets of positions, the sets; of one of
//! heads alone, a single one. A pair's values are thus in one piece, which [`Place`] tells where to
//! find, so that they can be asked of a server without the rest.

use std::collections::BTreeMap;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{Study, StudyAxis, StudyGrid, StudyPair};

/// The metrics whose values are kept: the logit difference in nats, and the probabilities of both
/// answers where they were read.
pub const METRICS: [&str; 3] = ["logit_diff", "p_true", "p_false"];

/// The name of the file beside a manifest.
pub const FILE: &str = "values.safetensors";

/// Where the values are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Place {
    /// The file, relative to the manifest's address or folder.
    pub file: String,
    /// The file itself in base64, where a study is a single file; `null` where it lies beside.
    #[serde(default)]
    pub inline: Option<String>,
    /// Its arrays by name.
    pub arrays: BTreeMap<String, Array>,
}

/// One array of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Array {
    /// The lengths of its axes.
    pub shape: Vec<usize>,
    /// Its first byte in the file.
    pub begin: usize,
    /// One past its last byte.
    pub end: usize,
}

/// The name of an array.
pub fn name(grid: usize, metric: &str) -> String {
    format!("grids.{grid}.{metric}")
}

/// Arrays by name, each with the lengths of its axes.
pub type Arrays = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The file of `arrays`, and where they are in it.
pub fn pack(arrays: &Arrays) -> (Vec<u8>, Place) {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    let mut places = BTreeMap::new();
    for (name, (shape, values)) in arrays {
        let end = at + 4 * values.len();
        header.insert(
            name.clone(),
            serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [at, end] }),
        );
        places.insert(name.clone(), Array { shape: shape.clone(), begin: at, end });
        at = end;
    }
    let mut header = serde_json::to_vec(&header).expect("names and numbers are JSON");
    // Readers map the file, and numbers lie at multiples of eight.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    let n_before = file.len();
    for array in places.values_mut() {
        (array.begin, array.end) = (array.begin + n_before, array.end + n_before);
    }
    file.reserve(at);
    arrays.values().flat_map(|(_, values)| values).for_each(|v| file.extend(v.to_le_bytes()));
    (file, Place { file: FILE.into(), inline: None, arrays: places })
}

/// The numbers of little-endian bytes.
pub fn numbers(bytes: &[u8]) -> Vec<f32> {
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap_or_default());
    bytes.chunks_exact(4).map(number).collect()
}

impl Place {
    /// An array's bytes of the file.
    pub fn of<'a>(&self, name: &str, file: &'a [u8]) -> Option<&'a [u8]> {
        let array = self.arrays.get(name)?;
        file.get(array.begin..array.end)
    }

    /// Puts the file into the manifest.
    pub fn put_inline(&mut self, file: &[u8]) {
        self.inline = Some(STANDARD.encode(file));
    }

    /// The file, where the manifest holds it.
    pub fn inline(&self) -> Option<Vec<u8>> {
        STANDARD.decode(self.inline.as_ref()?).ok()
    }
}

impl Study {
    /// The columns of each pair's values in the arrays of a grid.
    pub fn columns(&self, grid: &StudyGrid) -> Vec<Range<usize>> {
        let mut next = 0;
        let mut columns = |pair: &StudyPair| {
            let start = next;
            next += n_columns(grid, pair);
            start..next
        };
        self.pairs.iter().map(&mut columns).collect()
    }
}

impl StudyGrid {
    /// How many numbers a column has.
    pub fn n_in_column(&self) -> usize {
        let numbered = |axis: &&StudyAxis| matches!(axis, StudyAxis::Layer(_) | StudyAxis::Head(_));
        self.axes.iter().filter(numbered).map(StudyAxis::len).product()
    }
}

/// How many columns a pair has.
pub(super) fn n_columns(grid: &StudyGrid, pair: &StudyPair) -> usize {
    match grid.axes.last() {
        Some(StudyAxis::Role(_)) => pair.of(grid.receiver).tokens.len(),
        Some(StudyAxis::Span(spans)) => spans.len(),
        _ => 1,
    }
}

/// Whether the arrays are those of the study's grids.
pub(super) fn check(place: &Place, study: &Study) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let file = &place.file;
    // It becomes part of an address, and of a path.
    if file.starts_with('/') || file.contains("..") || !file.chars().all(fits) {
        let file: String = file.chars().take(60).collect();
        return Err(format!("`values.file` is {file:?}, and no file beside the manifest"));
    }
    for (name, Array { shape, begin, end }) in &place.arrays {
        let n_bytes = shape.iter().try_fold(4usize, |n, len| n.checked_mul(*len));
        if end.checked_sub(*begin) != n_bytes || n_bytes.is_none() {
            return Err(format!("`values.arrays` says of {name:?} another size than its shape"));
        }
    }
    for (at, grid) in study.grids.iter().enumerate() {
        let n_columns: usize = study.pairs.iter().map(|pair| n_columns(grid, pair)).sum();
        for metric in METRICS {
            let Some(array) = place.arrays.get(&name(at, metric)) else { continue };
            let expected = n_columns.checked_mul(grid.n_in_column());
            if Some(array.shape.iter().product()) != expected {
                return Err(format!("`{}` has not {n_columns} columns", name(at, metric)));
            }
        }
    }
    Ok(())
}
