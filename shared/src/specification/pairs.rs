//! Tables of sentence pairs: TSV, CSV and JSON Lines, with a header.
//!
//! A byte-order mark, CRLF line ends, blank lines and quoted cells (which may hold tabs, commas
//! and line breaks) are read as people expect. All bad rows are reported at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::json;

/// Columns named by the reader.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TableColumns {
    /// The entity's column.
    #[serde(default)]
    pub entity: Option<String>,
    /// The source sentence's column.
    #[serde(default)]
    pub source: Option<String>,
    /// The base sentence's column.
    #[serde(default)]
    pub base: Option<String>,
}

/// One row: two sentences about one entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The line of the table on which the row begins, from 1.
    pub line: u64,
    /// What the sentences are about; empty where the table has no such column.
    pub entity: String,
    /// The sentence whose activations are patched in.
    pub source: String,
    /// The sentence that receives them.
    pub base: String,
    /// Every cell of the row by its column's name, for templates and answers.
    pub cells: BTreeMap<String, String>,
}

/// Which columns mean what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The entity's column.
    pub entity: String,
    /// Whether a table without the entity's column is an error.
    pub entity_required: bool,
    /// The source sentence's column.
    pub source: String,
    /// The base sentence's column.
    pub base: String,
}

impl Default for Columns {
    /// The notebook's: `name`, `power`, `no_power`.
    fn default() -> Self {
        Self {
            entity: "name".into(),
            entity_required: true,
            source: "power".into(),
            base: "no_power".into(),
        }
    }
}

impl Columns {
    /// The columns of a table of which some, or none, were named: the others are the notebook's,
    /// or, in a table that does not speak of power, `name`, `source` and `base`.
    pub fn guess(bytes: &[u8], named: &TableColumns, uses_entity: bool) -> Self {
        let notebook = Self::default();
        let head = bytes.split(|&b| b == b'\n').find(|line| !line.is_empty()).unwrap_or_default();
        let is_general = !String::from_utf8_lossy(head).contains(&notebook.source);
        let (source, base) = match is_general {
            true => ("source".to_string(), "base".to_string()),
            false => (notebook.source, notebook.base),
        };
        Self {
            entity_required: uses_entity || named.entity.is_some(),
            entity: named.entity.clone().unwrap_or(notebook.entity),
            source: named.source.clone().unwrap_or(source),
            base: named.base.clone().unwrap_or(base),
        }
    }
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TableFormat {
    /// Tab-separated, quotes allowed.
    #[default]
    #[serde(rename = "tsv")]
    Tsv,
    /// Comma-separated, quotes allowed.
    #[serde(rename = "csv")]
    Csv,
    /// One JSON object a line.
    #[serde(rename = "jsonl")]
    JsonLines,
}

impl TableFormat {
    /// The format that a file name's ending tells: `.tsv`, `.tab`, `.txt`; `.csv`; `.jsonl`,
    /// `.ndjson`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "tsv" | "tab" | "txt" => Some(Self::Tsv),
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            _ => None,
        }
    }
}

/// How a text looks to be written, and the names of its columns, for whoever has to choose among
/// them. What is wrong with a table, [`read`] says.
pub fn glance(text: &str) -> (TableFormat, Vec<String>) {
    let text = text.trim_start_matches('\u{feff}');
    let head = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let format = match head {
        head if head.trim_start().starts_with('{') => TableFormat::JsonLines,
        head if !head.contains('\t') && head.contains(',') => TableFormat::Csv,
        _ => TableFormat::Tsv,
    };
    (format, names(head, format))
}

/// The names of the columns in a table's first line.
pub fn names(head: &str, format: TableFormat) -> Vec<String> {
    let delimiter = match format {
        TableFormat::Tsv => '\t',
        TableFormat::Csv => ',',
        TableFormat::JsonLines => {
            let object = json::parse(head).and_then(json::read::<Map<_, _>>).unwrap_or_default();
            return object.into_iter().map(|(name, _): (_, Value)| name).collect();
        }
    };
    let (mut names, mut is_quoted) = (vec![String::new()], false);
    for c in head.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            c if c == delimiter && !is_quoted => names.push(String::new()),
            c => names.last_mut().expect("there is one").push(c),
        }
    }
    names.into_iter().map(|name| name.trim().to_string()).filter(|name| !name.is_empty()).collect()
}

/// Everything that is wrong with a table.
#[derive(Debug, PartialEq, Eq)]
pub struct TableError {
    /// The table's file name, as given.
    pub file: String,
    /// One entry for every bad cell or row, in order.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: u64,
    /// The column's name, where one is to blame.
    pub column: Option<String>,
    /// What was found, what was expected, what to do.
    pub message: String,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.problems.len();
        if n > 1 {
            write!(f, "{n} problems in {}:", self.file)?;
        }
        for problem in &self.problems {
            if n > 1 {
                f.write_str("\n  ")?;
            }
            write!(f, "{}:{}: ", self.file, problem.line)?;
            if let Some(column) = &problem.column {
                write!(f, "column `{column}`: ")?;
            }
            f.write_str(&problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for TableError {}

/// A row before its columns have been given a meaning.
struct Row {
    line: u64,
    cells: BTreeMap<String, String>,
}

/// Reads a table.
///
/// # Errors
/// [`TableError`] names file, line and column of everything that is wrong.
pub fn read(
    file: &str,
    bytes: &[u8],
    format: TableFormat,
    columns: &Columns,
) -> Result<Vec<Pair>, TableError> {
    let mut problems = Vec::new();
    let rows = decode(bytes).and_then(|text| match format {
        TableFormat::Tsv => separated_rows(text, b'\t', columns, &mut problems),
        TableFormat::Csv => separated_rows(text, b',', columns, &mut problems),
        TableFormat::JsonLines => Ok(json_rows(text, &mut problems)),
    });
    let pairs = match rows {
        Ok(rows) => rows.into_iter().map(|row| pair(row, columns, &mut problems)).collect(),
        Err(problem) => {
            problems.push(problem);
            Vec::new()
        }
    };
    if pairs.is_empty() && problems.is_empty() {
        problems.push(Problem::at(1, "the table has no rows: expected a pair of sentences a row"));
    }
    if problems.is_empty() {
        return Ok(pairs.into_iter().flatten().collect());
    }
    problems.sort_by_key(|problem| problem.line);
    Err(TableError { file: file.to_string(), problems })
}

impl Problem {
    fn at(line: u64, message: impl Into<String>) -> Self {
        Self { line, column: None, message: message.into() }
    }

    fn in_column(line: u64, column: &str, message: impl Into<String>) -> Self {
        Self { line, column: Some(column.to_string()), message: message.into() }
    }
}

fn decode(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(Problem::at(1, "the file is UTF-16: save it as UTF-8"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        Problem::at(line as u64, "the text is not UTF-8 here: save the file as UTF-8")
    })
}

/// The record that is put behind the table: if it does not come back as a record of its own, a
/// quote was opened and never closed, and has swallowed rows.
const SENTINEL: &str = "\u{1}end of table\u{1}";

fn separated_rows(
    text: &str,
    delimiter: u8,
    columns: &Columns,
    problems: &mut Vec<Problem>,
) -> Result<Vec<Row>, Problem> {
    let guarded = format!("{text}\n{SENTINEL}\n");
    let (mut records, mut line, mut counted) = (Vec::new(), 1, 0);
    for record in csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .has_headers(false)
        .from_reader(guarded.as_bytes())
        .into_records()
    {
        let record = record.map_err(|error| Problem::at(line, error.to_string()))?;
        // The reader's own position is that of the line breaks which it skips before a record.
        let at = record.position().map_or(0, |p| p.byte() as usize);
        let breaks = guarded.as_bytes()[at..].iter().take_while(|b| matches!(b, b'\r' | b'\n'));
        let begin = at + breaks.count();
        line += guarded.as_bytes()[counted..begin].iter().filter(|&&b| b == b'\n').count() as u64;
        counted = begin;
        records.push((line, record));
    }
    match records.pop() {
        Some((_, last)) if last.len() == 1 && &last[0] == SENTINEL => {}
        Some((line, _)) => {
            return Err(Problem::at(line, "a quote (\") that opens here is never closed"));
        }
        None => {}
    }
    let mut records =
        records.into_iter().filter(|(_, record)| record.iter().any(|cell| !cell.trim().is_empty()));
    let Some((header_line, header)) = records.next() else {
        return Err(Problem::at(1, "the table is empty: expected a header and a row a pair"));
    };
    let names: Vec<_> = header.iter().map(str::trim).collect();
    check_header(header_line, &names, columns)?;
    let mut rows = Vec::new();
    for (line, record) in records {
        if record.len() > names.len() {
            problems.push(Problem::at(
                line,
                format!(
                    "found {} cells for {} columns: quote a cell that contains the separator",
                    record.len(),
                    names.len()
                ),
            ));
            continue;
        }
        let cells = names.iter().zip(record.iter());
        let cells = cells.map(|(name, cell)| (name.to_string(), cell.trim().to_string()));
        rows.push(Row { line, cells: cells.collect() });
    }
    Ok(rows)
}

fn check_header(line: u64, names: &[&str], columns: &Columns) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !name.is_empty() && !seen.insert(name) {
            return Err(Problem::in_column(line, name, "the header names this column twice"));
        }
    }
    let mut wanted = vec![("source", &columns.source), ("base", &columns.base)];
    if columns.entity_required {
        wanted.insert(0, ("entity", &columns.entity));
    }
    const SHOWN: usize = 20;
    let mut found: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN {
        found.push(format!("{} more", names.len() - SHOWN));
    }
    match wanted.iter().find(|(_, name)| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some((role, name)) => Err(Problem::at(
            line,
            format!(
                "no column `{name}` for the {role}: the header has {}; name another with \
                 `--columns {role}=...`",
                found.join(", ")
            ),
        )),
    }
}

fn json_rows(text: &str, problems: &mut Vec<Problem>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let object: Map<String, Value> = match serde_json::from_str(text) {
            Ok(object) => object,
            Err(error) => {
                let message = format!("expected a JSON object on one line: {error}");
                problems.push(Problem::at(line, message));
                continue;
            }
        };
        let mut cells = BTreeMap::new();
        for (name, value) in object {
            let cell = match value {
                Value::String(text) => text.trim().to_string(),
                Value::Number(number) => number.to_string(),
                Value::Null => String::new(),
                _ => {
                    problems.push(Problem::in_column(line, &name, "expected a text"));
                    continue;
                }
            };
            cells.insert(name, cell);
        }
        rows.push(Row { line, cells });
    }
    rows
}

fn pair(row: Row, columns: &Columns, problems: &mut Vec<Problem>) -> Option<Pair> {
    let n_before = problems.len();
    let mut cell = |name: &str, required: bool| match row.cells.get(name) {
        Some(cell) if !cell.is_empty() => cell.clone(),
        found => {
            if required {
                let message =
                    if found.is_some() { "the cell is empty" } else { "the cell is missing" };
                problems.push(Problem::in_column(row.line, name, message));
            }
            String::new()
        }
    };
    let entity = cell(&columns.entity, columns.entity_required);
    let source = cell(&columns.source, true);
    let base = cell(&columns.base, true);
    if problems.len() > n_before {
        return None;
    }
    if source == base {
        problems.push(Problem::at(
            row.line,
            format!(
                "`{}` and `{}` are the same sentence: there is nothing to patch",
                columns.source, columns.base
            ),
        ));
        return None;
    }
    Some(Pair { line: row.line, entity, source, base, cells: row.cells })
}

#[cfg(test)]
mod tests {
    use super::*;
    use TableFormat::{Csv, JsonLines, Tsv};

    fn read_text(text: &str, format: TableFormat) -> Result<Vec<Pair>, String> {
        read("t", text.as_bytes(), format, &Columns::default()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_glance_tells_format_and_columns() {
        let cases = [
            ("\u{feff}name\tpower\tno_power\r\nx", Tsv, &["name", "power", "no_power"][..]),
            ("\n\"a, b\",source,base\n", Csv, &["a, b", "source", "base"]),
            ("{\"base\": \"x, y\", \"source\": \"z\"}", JsonLines, &["base", "source"]),
            ("", Tsv, &[]),
        ];
        for (text, format, names) in cases {
            let (found, columns) = glance(text);
            assert_eq!(
                (found, &*columns),
                (format, &names.iter().map(|name| name.to_string()).collect::<Vec<_>>()[..]),
                "{text}"
            );
        }
    }

    #[test]
    fn tables_are_read_as_people_expect() {
        let plain = "name\tpower\tno_power\nAda\tAda rules.\tAda waits.\n";
        let cases = [
            (Tsv, plain.to_string(), 2),
            (Tsv, plain.trim_end().to_string(), 2),
            (Tsv, format!("\u{feff}{plain}"), 2),
            (Tsv, plain.replace('\n', "\r\n"), 2),
            (Tsv, format!("\n{}", plain.replace('\n', "\n\n \t \n")), 5),
            (Csv, plain.replace('\t', ","), 2),
            (Csv, plain.replace('\t', ", "), 2),
            (Csv, plain.replace("Ada rules.", "\"Ada rules.\"").replace('\t', ","), 2),
            (Tsv, "power\tnote\tname\tno_power\nAda rules.\tx\tAda\tAda waits.".into(), 2),
            (
                JsonLines,
                "\n{\"name\":\"Ada\",\"power\":\"Ada rules.\",\"no_power\":\"Ada waits.\"}\n"
                    .into(),
                2,
            ),
        ];
        for (format, text, line) in cases {
            let pairs = read_text(&text, format).unwrap_or_else(|e| panic!("{text:?}: {e}"));
            assert_eq!(pairs.len(), 1, "{text:?}");
            let pair = &pairs[0];
            let got = (pair.line, &*pair.entity, &*pair.source, &*pair.base);
            assert_eq!(got, (line, "Ada", "Ada rules.", "Ada waits."), "{text:?}");
        }
    }

    #[test]
    fn quoted_cells_keep_tabs_quotes_and_line_breaks() {
        let text = "name\tpower\tno_power\tother\n\
                    \"A\tB\"\t\"He said \"\"go\"\".\"\tone\n\n\"A\tC\"\t\"two\nlines\"\tx\ty\n";
        let pairs = read_text(text, Tsv).unwrap();
        assert_eq!((&*pairs[0].entity, &*pairs[0].source), ("A\tB", "He said \"go\"."));
        assert_eq!((pairs[1].line, &*pairs[1].source), (4, "two\nlines"));
        assert_eq!(pairs[1].cells["other"], "y");
    }

    #[test]
    fn every_bad_row_is_reported_with_its_line_and_column() {
        let cases = [
            (Tsv, "", "t:1: the table is empty"),
            (Tsv, "name\tpower\tno_power\n", "t:1: the table has no rows"),
            (
                Tsv,
                "name\tpower\na\tb\n",
                "t:1: no column `no_power` for the base: the header has `name`, `power`; name another with `--columns base=...`",
            ),
            (
                Tsv,
                "name\tname\tpower\tno_power\n",
                "t:1: column `name`: the header names this column twice",
            ),
            (
                Csv,
                "name,power,no_power\nA,b,c\nB,\"open,x\nC,d,e\n",
                "t:3: a quote (\") that opens here is never closed",
            ),
            (
                Tsv,
                "name\tpower\tno_power\nA\tb\tb\n",
                "t:2: `power` and `no_power` are the same sentence",
            ),
            (JsonLines, "{\"name\": 1}\nno\n", "t:2: expected a JSON object"),
            (JsonLines, "{\"name\": [1]}\n", "t:1: column `name`: expected a text"),
        ];
        for (format, text, expected) in cases {
            let error = read_text(text, format).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let text = "name\tpower\tno_power\nA\t\tb\n\nB\tc\nC\td\te\tf\nD\tg\th\n";
        assert_eq!(
            read_text(text, Tsv).unwrap_err(),
            "3 problems in t:\n  t:2: column `power`: the cell is empty\n  \
             t:4: column `no_power`: the cell is missing\n  \
             t:5: found 4 cells for 3 columns: quote a cell that contains the separator"
        );
    }

    #[test]
    fn text_that_is_not_utf8_is_located() {
        let read =
            |bytes: &[u8]| read("t", bytes, Tsv, &Columns::default()).unwrap_err().to_string();
        assert!(
            read(b"name\tpower\tno_power\nA\t\xff\tb").starts_with("t:2: the text is not UTF-8")
        );
        assert!(read(b"\xff\xfen\0a\0").contains("UTF-16"));
    }

    #[test]
    fn a_table_without_entities_is_read_where_none_is_needed() {
        let columns = Columns { entity_required: false, ..Columns::default() };
        let pairs = read("t", b"power\tno_power\na\tb\n", Tsv, &columns).unwrap();
        assert_eq!(pairs[0].entity, "");
    }
}
