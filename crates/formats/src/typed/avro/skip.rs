//! Walking over Avro records without taking their values, to know where each ends.

use std::collections::HashMap;

use serde_json::Value;

/// Types inside each other, in the schema and in the data.
const DEPTH_MAX: usize = 100;

/// How the values of a type are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Skip {
    Nothing,
    Fixed(usize),
    Number,
    /// A length and so many bytes.
    Bytes,
    /// A number below this.
    Symbol(usize),
    Each(Vec<usize>),
    OneOf(Vec<usize>),
    /// Items in blocks.
    Items(usize),
    /// Keys and values in blocks.
    Pairs(usize),
}

/// Passes over records of a schema.
#[derive(Debug)]
pub(super) struct Skipper {
    types: Vec<Skip>,
    root: usize,
}

/// What has been met of a schema.
#[derive(Default)]
struct Reading {
    types: Vec<Skip>,
    named: HashMap<String, usize>,
}

impl Skipper {
    /// Reads a schema.
    pub fn new(schema: &str) -> Result<Skipper, String> {
        let schema: Value = serde_json::from_str(schema).map_err(|e| e.to_string())?;
        let mut reading = Reading::default();
        let root = reading.read(&schema, "", 0)?;
        Ok(Skipper { types: reading.types, root })
    }

    /// Whether `block` is `count` records and nothing else.
    pub fn fills(&self, block: &[u8], count: i64) -> bool {
        let mut rest = block;
        // Items may take no bytes at all; so many of them are passed over at most.
        let mut steps = block.len().saturating_mul(16).saturating_add(1 << 20);
        count > 0 && (0..count).all(|_| self.pass(self.root, &mut rest, &mut steps, 0).is_some()) && rest.is_empty()
    }

    fn pass(&self, id: usize, rest: &mut &[u8], steps: &mut usize, depth: usize) -> Option<()> {
        *steps = steps.checked_sub(1)?;
        if depth > DEPTH_MAX {
            return None;
        }
        match self.types.get(id)? {
            Skip::Nothing => {}
            Skip::Fixed(length) => *rest = rest.get(*length..)?,
            Skip::Number => {
                number(rest)?;
            }
            Skip::Bytes => bytes(rest)?,
            Skip::Symbol(count) => {
                usize::try_from(number(rest)?).ok().filter(|symbol| symbol < count)?;
            }
            Skip::Each(fields) => {
                for field in fields {
                    self.pass(*field, rest, steps, depth + 1)?;
                }
            }
            Skip::OneOf(branches) => {
                let branch = usize::try_from(number(rest)?).ok()?;
                self.pass(*branches.get(branch)?, rest, steps, depth + 1)?;
            }
            Skip::Items(item) => self.blocks(rest, steps, |rest, steps| self.pass(*item, rest, steps, depth + 1))?,
            Skip::Pairs(value) => self.blocks(rest, steps, |rest, steps| {
                bytes(rest)?;
                self.pass(*value, rest, steps, depth + 1)
            })?,
        }
        Some(())
    }

    /// Blocks of items up to an empty one. A negative count is followed by the block's size, which nobody needs here.
    fn blocks(
        &self,
        rest: &mut &[u8],
        steps: &mut usize,
        item: impl Fn(&mut &[u8], &mut usize) -> Option<()>,
    ) -> Option<()> {
        loop {
            let count = number(rest)?;
            if count == 0 {
                return Some(());
            }
            if count < 0 {
                number(rest)?;
            }
            for _ in 0..count.unsigned_abs() {
                *steps = steps.checked_sub(1)?;
                item(rest, steps)?;
            }
        }
    }
}

fn number(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn bytes(rest: &mut &[u8]) -> Option<()> {
    let length = usize::try_from(number(rest)?).ok()?;
    *rest = rest.get(length..)?;
    Some(())
}

impl Reading {
    fn add(&mut self, skip: Skip) -> usize {
        self.types.push(skip);
        self.types.len() - 1
    }

    /// The place of a type among `types`. Named types are known from where they begin, since they may hold themselves.
    fn read(&mut self, schema: &Value, namespace: &str, depth: usize) -> Result<usize, String> {
        if depth > DEPTH_MAX {
            return Err("its schema is nested too deeply".to_owned());
        }
        match schema {
            Value::String(name) => self.by_name(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.read(branch, namespace, depth + 1));
                let branches = branches.collect::<Result<Vec<_>, _>>()?;
                Ok(self.add(Skip::OneOf(branches)))
            }
            Value::Object(members) => {
                let text = |key: &str| members.get(key).and_then(Value::as_str);
                let kind = members.get("type").ok_or("a type of its schema has no `type`")?;
                let Some(kind) = kind.as_str() else { return self.read(kind, namespace, depth + 1) };
                let part = |key: &str| members.get(key).ok_or_else(|| format!("a type of its schema has no `{key}`"));
                let (full, inside) = full_name(text("name").unwrap_or_default(), text("namespace"), namespace);
                match kind {
                    "record" | "error" => {
                        let place = self.add(Skip::Nothing);
                        self.named.insert(full, place);
                        let fields = part("fields")?.as_array().ok_or("fields of its schema are no list")?;
                        let each = fields.iter().map(|field| {
                            let data_type = field.get("type").ok_or("a field of its schema has no type")?;
                            self.read(data_type, &inside, depth + 1)
                        });
                        let each = each.collect::<Result<Vec<_>, String>>()?;
                        if let Some(skip) = self.types.get_mut(place) {
                            *skip = Skip::Each(each);
                        }
                        Ok(place)
                    }
                    "enum" => {
                        let symbols = part("symbols")?.as_array().map_or(0, Vec::len);
                        let place = self.add(Skip::Symbol(symbols));
                        self.named.insert(full, place);
                        Ok(place)
                    }
                    "fixed" => {
                        let size = part("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                        let place = self.add(Skip::Fixed(size.ok_or("a size of its schema is no number")?));
                        self.named.insert(full, place);
                        Ok(place)
                    }
                    "array" => {
                        let item = self.read(part("items")?, namespace, depth + 1)?;
                        Ok(self.add(Skip::Items(item)))
                    }
                    "map" => {
                        let value = self.read(part("values")?, namespace, depth + 1)?;
                        Ok(self.add(Skip::Pairs(value)))
                    }
                    name => self.by_name(name, namespace),
                }
            }
            _ => Err("its schema is no schema".to_owned()),
        }
    }

    fn by_name(&mut self, name: &str, namespace: &str) -> Result<usize, String> {
        let skip = match name {
            "null" => Skip::Nothing,
            "boolean" => Skip::Fixed(1),
            "int" | "long" => Skip::Number,
            "float" => Skip::Fixed(4),
            "double" => Skip::Fixed(8),
            "bytes" | "string" => Skip::Bytes,
            other => {
                let (full, _) = full_name(other, None, namespace);
                let known = self.named.get(&full).or_else(|| self.named.get(other));
                return known.copied().ok_or_else(|| format!("its schema has no type `{other}`"));
            }
        };
        Ok(self.add(skip))
    }
}

/// A name with its namespace, and the namespace that holds inside.
fn full_name(name: &str, given: Option<&str>, outer: &str) -> (String, String) {
    if let Some((namespace, _)) = name.rsplit_once('.') {
        return (name.to_owned(), namespace.to_owned());
    }
    let namespace = given.unwrap_or(outer);
    let full = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") };
    (full, namespace.to_owned())
}
