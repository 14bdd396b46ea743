//! From JSON values to types and back, with little code.
//!
//! [`read`] does what `serde_json::from_value` does, but takes a struct from an object alone: the other
//! reader takes it from a list of its fields as well, for which every struct brings another reader, and
//! the viewer, which reads every type by way of a value, would be loaded with all of them.

use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Visitor,
};
use serde::{Serialize, forward_to_deserialize_any};
use serde_json::{Error, Map, Value};

/// Reads a value. Everything that the viewer reads as JSON goes through this, so that it is loaded with
/// one parser.
///
/// # Errors
/// Where and why it is no JSON.
pub fn parse(json: impl AsRef<[u8]>) -> Result<Value, Error> {
    serde_json::from_slice(json.as_ref())
}

/// A number as JSON writes it, for which no other reader of numbers is needed.
pub fn number(text: &str) -> Option<f32> {
    parse(text).ok()?.as_f64().map(|number| number as f32)
}

/// Reads a type from a value.
///
/// # Errors
/// What the value has in place of what the type has.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Reader(value))
}

/// The fields of a struct, by way of its text: every type then needs one writer only.
pub fn fields(of: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_vec(of).and_then(parse) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

struct Reader(Value);

impl<'de> Deserializer<'de> for Reader {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => number.deserialize_any(visitor),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(values) => visitor.visit_seq(List(values.into_iter())),
            Value::Object(fields) => visitor.visit_map(Fields::of(fields)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(fields) => visitor.visit_map(Fields::of(fields)),
            value => Err(unexpected(name, &value)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_struct("an object", &[], visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(word) => {
                let word: StringDeserializer<Error> = word.into_deserializer();
                visitor.visit_enum(word)
            }
            value => Err(unexpected(name, &value)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct identifier ignored_any
    }
}

fn unexpected(name: &str, value: &Value) -> Error {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Error::custom(format_args!("invalid type: {found}, expected {name}"))
}

struct List(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for List {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|value| seed.deserialize(Reader(value))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Fields {
    rest: serde_json::map::IntoIter,
    value: Value,
}

impl Fields {
    fn of(fields: Map<String, Value>) -> Self {
        Self { rest: fields.into_iter(), value: Value::Null }
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.rest.next() else { return Ok(None) };
        self.value = value;
        seed.deserialize(Name(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Reader(self.value.take()))
    }
}

/// The name of a field, which may be a number.
struct Name(String);

impl<'de> Deserializer<'de> for Name {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.parse() {
            Ok(number) => visitor.visit_u32(number),
            Err(_) => visitor.visit_string(self.0),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str string bytes byte_buf unit option
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        texts: BTreeMap<u32, String>,
        #[serde(default)]
        pair: Option<[usize; 2]>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "axis", content = "keys", rename_all = "snake_case")]
    enum Axis {
        Layer(Vec<usize>),
        Word(Vec<Word>),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        OneWord,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Piece {
        Next(usize),
        Text(String),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(transparent)]
    struct Number(f32);

    #[derive(Debug, PartialEq, Deserialize)]
    struct All {
        inner: Inner,
        axes: Vec<Axis>,
        pieces: Vec<(u32, Piece)>,
        numbers: Vec<Option<Number>>,
        is: bool,
        rest: Map<String, Value>,
    }

    #[test]
    fn values_are_read_as_by_the_other_reader() {
        let whole = json!({
            "inner": { "texts": { "7": "a", "12": "b" }, "pair": [1, 2] },
            "axes": [{ "axis": "layer", "keys": [0, 1] }, { "keys": ["one_word"], "axis": "word" }],
            "pieces": [[1, 5], [2, "x"]],
            "numbers": [1, -2, 0.1, 1e-9, null],
            "is": true,
            "rest": { "a": { "b": [null] } },
        });
        let found: All = read(whole.clone()).unwrap();
        assert_eq!(found, serde_json::from_value(whole.clone()).unwrap());
        // Whatever is put in the place of a value, both read it or neither does.
        let odd =
            [json!(null), json!(-1), json!("x"), json!([]), json!({}), json!([1, 2]), json!(1.5)];
        let paths =
            ["inner", "axes", "pieces", "numbers", "is", "rest", "/inner/texts", "/inner/pair"];
        let more =
            ["/axes/0/keys", "/axes/1/keys/0", "/pieces/0/1", "/numbers/2", "/inner/texts/7"];
        for path in paths.into_iter().chain(more) {
            let pointer = if path.starts_with('/') { path.into() } else { format!("/{path}") };
            for odd in &odd {
                let mut changed = whole.clone();
                *changed.pointer_mut(&pointer).unwrap() = odd.clone();
                let ours = read::<All>(changed.clone());
                let other = serde_json::from_value::<All>(changed.clone());
                // But for structs as lists, which nobody writes.
                if pointer != "/inner" {
                    assert_eq!(ours.as_ref().ok(), other.as_ref().ok(), "{pointer}: {odd}");
                }
            }
        }
        let error = read::<Inner>(json!([{}, null])).unwrap_err().to_string();
        assert_eq!(error, "invalid type: a list, expected Inner");
        let error = read::<Inner>(json!({ "texts": {}, "other": 1 })).unwrap_err().to_string();
        assert!(error.contains("unknown field `other`"), "{error}");
    }
}
