//! What a server answers when it does not do what was asked: problem details (RFC 9457).

use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// The kind of problem, for programs: `urn:patchboard:problem:` and a word.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was found, what was expected and what to do.
    pub detail: String,
    /// Every bad row of a table; not there where no table is to blame.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<RowProblem>,
}

/// What is wrong with one row of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RowProblem {
    /// The line of the table, from 1; for pairs without a table, which of them, from 1.
    pub line: u64,
    /// The column's name, where one is to blame.
    pub column: Option<String>,
    /// What was found, what was expected, what to do.
    pub message: String,
}
