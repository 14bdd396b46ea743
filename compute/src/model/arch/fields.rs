//! The fields of a JSON object, read with errors that name the field as the file has it.

use serde_json::{Map, Value};

/// A name and the name that a family gives it.
pub type Alias = (&'static str, &'static str);

/// The fields of one JSON object.
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    aliases: &'static [Alias],
}

impl<'a> Fields<'a> {
    /// The fields of `object`, some of them under other names.
    pub fn new(object: &'a Map<String, Value>, aliases: &'static [Alias]) -> Self {
        Self { object, aliases }
    }

    /// A field's name in this object.
    pub fn name(&self, name: &'static str) -> &'static str {
        let alias = self.aliases.iter().find(|(common, _)| *common == name);
        match alias {
            // Where a file has both, the family's own name is the one that counts.
            Some((_, alias))
                if self.object.contains_key(*alias) || !self.object.contains_key(name) =>
            {
                alias
            }
            _ => name,
        }
    }

    /// A field that is there and not null.
    pub fn present(&self, name: &'static str) -> Option<&'a Value> {
        self.object.get(self.name(name)).filter(|value| !value.is_null())
    }

    /// The fields of a nested object.
    pub fn nested(&self, name: &'static str) -> Result<Option<Fields<'a>>, String> {
        let Some(value) = self.present(name) else { return Ok(None) };
        match value.as_object() {
            Some(object) => Ok(Some(Fields { object, aliases: &[] })),
            None => Err(format!("`{}` should be an object, found {value}", self.name(name))),
        }
    }

    fn read<T>(
        &self,
        name: &'static str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let name_here = self.name(name);
        self.present(name)
            .map(|v| read(v).ok_or(format!("`{name_here}` should be {expected}, found {v}")))
            .transpose()
    }

    /// A number above 0, as an f32 too.
    pub fn positive(&self, name: &'static str) -> Result<Option<f64>, String> {
        let positive = |v: &Value| v.as_f64().filter(|x| is_positive(*x));
        self.read(name, "a positive number", positive)
    }

    /// A count that may be 0.
    pub fn whole(&self, name: &'static str) -> Result<Option<usize>, String> {
        let whole = |v: &Value| v.as_u64().filter(|n| *n <= 1 << 31).map(|n| n as usize);
        self.read(name, "a whole number", whole)
    }

    /// A truth value.
    pub fn flag(&self, name: &'static str) -> Result<Option<bool>, String> {
        self.read(name, "true or false", Value::as_bool)
    }

    /// A text.
    pub fn text(&self, name: &'static str) -> Result<Option<&'a str>, String> {
        self.present(name)
            .map(|v| v.as_str().ok_or(format!("`{}` should be a text, found {v}", self.name(name))))
            .transpose()
    }

    /// A dimension.
    pub fn size(&self, name: &'static str) -> Result<Option<usize>, String> {
        let size = |v: &Value| v.as_u64().filter(|n| (1..=1 << 31).contains(n)).map(|n| n as usize);
        self.read(name, "a positive integer", size)
    }

    /// A list of texts.
    pub fn texts(&self, name: &'static str) -> Result<Option<Vec<String>>, String> {
        let texts = |v: &Value| {
            v.as_array()?.iter().map(|v| v.as_str().map(String::from)).collect::<Option<Vec<_>>>()
        };
        self.read(name, "a list of texts", texts)
    }

    /// A list of numbers.
    pub fn numbers(&self, name: &'static str) -> Result<Option<Vec<f32>>, String> {
        let numbers = |v: &Value| {
            v.as_array()?.iter().map(|v| v.as_f64().map(|v| v as f32)).collect::<Option<Vec<_>>>()
        };
        self.read(name, "a list of numbers", numbers)
    }

    /// A field that must be there.
    pub fn need<T>(&self, name: &'static str, value: Option<T>) -> Result<T, String> {
        value.ok_or(format!("`{}` is missing", self.name(name)))
    }

    /// Refuses a setting that is present and not one of `supported`, a JSON list; an empty list
    /// refuses any.
    pub fn expect(&self, name: &'static str, supported: &str) -> Result<(), String> {
        let values: Vec<Value> = serde_json::from_str(supported).unwrap_or_default();
        match self.present(name) {
            Some(found) if values.is_empty() => {
                Err(format!("`{}` is {found}, which is not supported", self.name(name)))
            }
            Some(found) if !values.iter().any(|value| is_same(value, found)) => {
                let values: Vec<_> = values.iter().map(Value::to_string).collect();
                let values = values.join(" or ");
                Err(format!("`{}` is {found}: only {values} is supported", self.name(name)))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a number is above 0 and finite, and stays so as an f32.
pub fn is_positive(x: f64) -> bool {
    let x = x as f32;
    x > 0.0 && x.is_finite()
}

/// Whether two values are the same, 1 and 1.0 included.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}
