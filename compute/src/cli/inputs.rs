//! What is swept: the table or the pair.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use shared::specification::pairs::TableColumns;
use shared::specification::pairs::{self, Columns, Pair, TableFormat};
use shared::specification::template::Template;

/// The pairs to sweep.
#[derive(Debug, Args)]
pub struct PairArgs {
    /// A table with a header: .tsv, .csv or .jsonl, one pair of sentences a row.
    #[arg(required_unless_present = "pair", conflicts_with = "pair")]
    table: Option<PathBuf>,

    /// One pair given here: the source's sentence, then the base's. Without `--entity` they are
    /// full prompts.
    #[arg(long, num_args = 2, value_names = ["SOURCE", "BASE"])]
    pair: Option<Vec<String>>,

    /// What the sentences of `--pair` are about.
    #[arg(long, requires = "pair")]
    entity: Option<String>,

    /// Which columns of the table mean what, e.g. `entity=who,source=with,base=without`. Default:
    /// `name`, `power` and `no_power`, or else `name`, `source` and `base`.
    #[arg(long, value_name = "ROLE=COLUMN,...", conflicts_with = "pair")]
    columns: Option<ColumnNames>,

    /// Take only the pairs about this entity; can be given several times.
    #[arg(long, value_name = "ENTITY", conflicts_with = "pair")]
    only: Vec<String>,

    /// Take only the first N pairs of the table.
    #[arg(long, value_name = "N", conflicts_with = "pair")]
    limit: Option<usize>,
}

/// Columns named on the command line.
#[derive(Debug, Clone, Default)]
struct ColumnNames(TableColumns);

impl FromStr for ColumnNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut names = TableColumns::default();
        for part in text.split(',') {
            let (role, column) = part
                .split_once('=')
                .filter(|(_, column)| !column.trim().is_empty())
                .ok_or(format!("expected ROLE=COLUMN, found `{part}`"))?;
            let slot = match role.trim() {
                "entity" => &mut names.entity,
                "source" => &mut names.source,
                "base" => &mut names.base,
                other => {
                    return Err(format!("`{other}` is no role: expected entity, source or base"));
                }
            };
            *slot = Some(column.trim().to_string());
        }
        Ok(Self(names))
    }
}

/// The pairs.
pub struct Pairs {
    /// The pairs, in the table's order.
    pub pairs: Vec<Pair>,
    /// The table's file, for messages; `None` for a pair from the command line.
    pub file: Option<String>,
}

impl Pairs {
    /// What the table is called: its file's name.
    pub fn name(&self) -> String {
        let stem = self.file.as_ref().and_then(|file| Path::new(file).file_stem());
        stem.map_or("Study".into(), |stem| stem.to_string_lossy().into_owned())
    }
}

impl PairArgs {
    /// Whether it is one pair, given here.
    pub fn is_one(&self) -> bool {
        self.pair.is_some()
    }

    /// Reads and checks everything that needs no model, for prompts that `template` makes; `None` if
    /// the sentences are full prompts.
    ///
    /// # Errors
    /// A table or column that is not as it should be.
    pub fn read(&self, template: Option<&Template>) -> Result<Pairs> {
        if let (Some(texts), None) = (&self.pair, &self.table) {
            let pair = Pair {
                line: 0,
                entity: self.entity.clone().unwrap_or_default(),
                source: texts[0].clone(),
                base: texts[1].clone(),
                cells: Default::default(),
            };
            return Ok(Pairs { pairs: vec![pair], file: None });
        }
        let path = self.table.as_deref().context("a table or `--pair` is needed")?;
        let file = path.display().to_string();
        let format = TableFormat::from_name(&file)
            .ok_or(anyhow!("expected a table that ends in .tsv, .csv or .jsonl, found {file}"))?;
        let bytes = std::fs::read(path).with_context(|| format!("cannot read the table {file}"))?;
        let uses_entity = template.is_some_and(|t| t.columns().any(|column| column == "entity"));
        let named = self.columns.clone().unwrap_or_default().0;
        let columns = Columns::guess(&bytes, &named, uses_entity);
        let mut pairs = pairs::read(&file, &bytes, format, &columns)?;
        if let Some(missing) =
            self.only.iter().find(|name| pairs.iter().all(|p| p.entity != **name))
        {
            bail!("no pair of {file} is about `{missing}`");
        }
        pairs.retain(|pair| self.only.is_empty() || self.only.contains(&pair.entity));
        pairs.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(Pairs { pairs, file: Some(file) })
    }
}
