//! Tables in long form as Parquet: the columns of the CSV, with numbers as numbers and what does not
//! exist as null.

use std::borrow::Cow;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;

/// How many rows are written together.
const ROWS_OF_GROUP: usize = 1 << 17;

/// The values of a column in a group of rows, and of every row whether it has one.
enum Values {
    Text(Vec<ByteArray>),
    Float(Vec<f32>),
    Int(Vec<i32>),
    Bool(Vec<bool>),
}

struct Column {
    values: Values,
    /// 1 where a row has a value, 0 where it has none.
    levels: Vec<i16>,
}

/// A table that grows row by row.
pub(super) struct Table {
    writer: SerializedFileWriter<Vec<u8>>,
    columns: Vec<Column>,
}

/// What the columns of this name hold. Whatever the reader's own table has is text.
fn values_of(name: &str) -> Values {
    match name {
        "counts" => Values::Bool(Vec::new()),
        "window" | "layer" | "head" | "position" | "from_end" | "token_id" => {
            Values::Int(Vec::new())
        }
        "effect" | "logit_diff" | "metric_unknown" | "recovery" | "p_true" | "p_false"
        | "kl_base" | "kl_source" | "rank_true" | "rank_false" | "p_top" => {
            Values::Float(Vec::new())
        }
        _ => Values::Text(Vec::new()),
    }
}

impl Table {
    /// A table of columns with these names.
    pub(super) fn new(names: &[Cow<str>]) -> Result<Self, ParquetError> {
        let columns: Vec<_> = names
            .iter()
            .map(|name| Column { values: values_of(name), levels: Vec::new() })
            .collect();
        let field = |(name, column): (&Cow<str>, &Column)| {
            let (physical, logical) = match column.values {
                Values::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
                Values::Float(_) => (Physical::FLOAT, None),
                Values::Int(_) => (Physical::INT32, None),
                Values::Bool(_) => (Physical::BOOLEAN, None),
            };
            let field = Type::primitive_type_builder(name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(logical);
            Ok(Arc::new(field.build()?))
        };
        let fields = names.iter().zip(&columns).map(field).collect::<Result<_, ParquetError>>()?;
        let schema = Type::group_type_builder("cells").with_fields(fields).build()?;
        let properties = WriterProperties::builder()
            .set_created_by(concat!("patchboard ", env!("CARGO_PKG_VERSION")).into());
        let properties = Arc::new(properties.build());
        let writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties)?;
        Ok(Self { writer, columns })
    }

    /// Takes a row, a text for each column; an empty one is null.
    pub(super) fn push(&mut self, row: &[Cow<str>]) -> Result<(), ParquetError> {
        for (column, text) in self.columns.iter_mut().zip(row) {
            column.push(text);
        }
        match self.columns.first().is_some_and(|column| column.levels.len() >= ROWS_OF_GROUP) {
            true => self.write(),
            false => Ok(()),
        }
    }

    /// Writes the rows that were taken.
    fn write(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            if let Some(writer) = group.next_column()? {
                column.write(writer)?;
            }
        }
        group.close()?;
        Ok(())
    }

    /// The bytes of the file.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, ParquetError> {
        if self.columns.first().is_some_and(|column| !column.levels.is_empty()) {
            self.write()?;
        }
        self.writer.into_inner()
    }
}

impl Column {
    fn push(&mut self, text: &str) {
        /// Adds the value of a text; whether it has one.
        fn add<T: std::str::FromStr>(values: &mut Vec<T>, text: &str) -> bool {
            let value = text.parse();
            let is_there = value.is_ok();
            values.extend(value);
            is_there
        }
        let is_there = match &mut self.values {
            Values::Text(values) => {
                values.extend((!text.is_empty()).then(|| ByteArray::from(text)));
                !text.is_empty()
            }
            Values::Float(values) => add(values, text),
            Values::Int(values) => add(values, text),
            Values::Bool(values) => add(values, text),
        };
        self.levels.push(i16::from(is_there));
    }

    fn write(&mut self, mut writer: SerializedColumnWriter) -> Result<(), ParquetError> {
        let levels = Some(&*self.levels);
        match &mut self.values {
            Values::Text(values) => {
                writer.typed::<ByteArrayType>().write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Float(values) => {
                writer.typed::<FloatType>().write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Int(values) => {
                writer.typed::<Int32Type>().write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Bool(values) => {
                writer.typed::<BoolType>().write_batch(values, levels, None)?;
                values.clear();
            }
        }
        self.levels.clear();
        writer.close()
    }
}

/// The rows that `each` hands out, the names of the columns first, as a file.
pub(super) fn written<E>(
    each: impl FnOnce(&mut dyn FnMut(&[Cow<str>])) -> Result<(), E>,
) -> Result<Vec<u8>, super::ExportError>
where
    super::ExportError: From<E>,
{
    let mut table = None;
    let mut failure = None;
    each(&mut |row| {
        if failure.is_some() {
            return;
        }
        let pushed = match &mut table {
            None => Table::new(row).map(|new| table = Some(new)),
            Some(table) => table.push(row),
        };
        failure = pushed.err();
    })?;
    match (failure, table) {
        (Some(error), _) => Err(error.into()),
        (None, Some(table)) => Ok(table.finish()?),
        (None, None) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    /// The rows of a file as texts.
    fn read(bytes: Vec<u8>) -> Vec<Vec<String>> {
        let reader = SerializedFileReader::new(Bytes::from(bytes)).unwrap();
        let text = |field: &Field| match field {
            Field::Null => String::new(),
            Field::Str(text) => text.clone(),
            Field::Float(number) => format!("{number:?}"),
            field => field.to_string(),
        };
        let rows = reader.get_row_iter(None).unwrap();
        let row = |row: Result<parquet::record::Row, ParquetError>| {
            row.unwrap().get_column_iter().map(|(_, field)| text(field)).collect()
        };
        rows.map(row).collect()
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let names = ["id", "counts", "layer", "token", "logit_diff", "row.layer"].map(Cow::from);
        let rows: Vec<[Cow<str>; 6]> = (0..ROWS_OF_GROUP + 3)
            .map(|n| {
                let token = ["", " a,b", "\"q\"\n", "女王"][n % 4];
                let number = match n % 3 {
                    0 => String::new(),
                    1 => format!("{:?}", n as f32 * 1e-9),
                    _ => format!("{:?}", -(n as f32)),
                };
                let layer = (n % 30).to_string();
                [
                    "x".into(),
                    (n % 2 == 0).to_string().into(),
                    layer.clone().into(),
                    token.into(),
                    number.into(),
                    layer.into(),
                ]
            })
            .collect();
        let bytes = written::<super::super::ExportError>(|each| {
            each(&names);
            rows.iter().for_each(|row| each(row));
            Ok(())
        });
        let bytes = bytes.unwrap();
        let reader = SerializedFileReader::new(Bytes::from(bytes.clone())).unwrap();
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let kinds: Vec<_> = schema.columns().iter().map(|c| c.physical_type()).collect();
        use Physical::{BOOLEAN, BYTE_ARRAY, FLOAT, INT32};
        assert_eq!(kinds, [BYTE_ARRAY, BOOLEAN, INT32, BYTE_ARRAY, FLOAT, BYTE_ARRAY]);
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let expected: Vec<_> =
            rows.into_iter().map(|row| row.map(|text| text.to_string())).collect();
        assert_eq!(read(bytes), expected);
    }
}
