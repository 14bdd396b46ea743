//! A table that was pasted or dropped.

use shared::specification::pairs::{TableColumns, TableFormat};
use shared::wire::job::TableInput;

/// A table that was pasted or dropped.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Its text.
    pub text: String,
    /// How it is written.
    pub format: TableFormat,
    /// Its file's name.
    pub name: String,
    /// Which columns mean what.
    pub columns: TableColumns,
}

impl Table {
    /// The table in a file.
    ///
    /// # Errors
    /// It is not text.
    pub fn of_file(name: String, format: TableFormat, bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "the file is not UTF-8: save it so")?;
        let text = text.trim_start_matches('\u{feff}').to_string();
        Ok(Self { text, format, name, columns: TableColumns::default() })
    }

    /// What is sent to a server, and the name.
    pub fn input(&self) -> (TableInput, String) {
        let Self { text, format, name, columns } = self.clone();
        (TableInput { text, format, columns }, name)
    }
}
