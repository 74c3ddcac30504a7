//! The protobuf messages of ORC that matter, read field by field; others are passed over.

/// A message being read.
struct Message<'m> {
    rest: &'m [u8],
}

/// The value of a field.
enum Value<'m> {
    Number(u64),
    Bytes(&'m [u8]),
}

impl<'m> Message<'m> {
    fn new(rest: &'m [u8]) -> Message<'m> {
        Message { rest }
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let Some((&byte, rest)) = self.rest.split_first() else { break };
            self.rest = rest;
            value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number in the footer has no end".to_owned())
    }

    fn bytes(&mut self, length: u64) -> Result<&'m [u8], String> {
        let cut = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (bytes, rest) = cut.ok_or("a field of the footer is longer than the footer")?;
        self.rest = rest;
        Ok(bytes)
    }

    /// The next field's number and value.
    fn field(&mut self) -> Result<Option<(u64, Value<'m>)>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.bytes(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => Value::Bytes(self.bytes(4)?),
            other => return Err(format!("the footer has a field of wire type {other}")),
        };
        Ok(Some((tag >> 3, value)))
    }
}

impl Value<'_> {
    fn number(&self) -> u64 {
        match self {
            Value::Number(number) => *number,
            Value::Bytes(_) => 0,
        }
    }

    /// Repeated numbers come one by one or packed.
    fn numbers(&self, out: &mut Vec<u64>) -> Result<(), String> {
        match self {
            Value::Number(number) => out.push(*number),
            Value::Bytes(bytes) => {
                let mut packed = Message::new(bytes);
                while !packed.rest.is_empty() {
                    out.push(packed.varint()?);
                }
            }
        }
        Ok(())
    }
}

impl<'m> Value<'m> {
    fn bytes(&self) -> &'m [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            Value::Number(_) => &[],
        }
    }
}

/// The last message of a file.
#[derive(Debug, Default)]
pub(super) struct PostScript<'m> {
    pub footer_length: u64,
    pub compression: u64,
    pub block_size: u64,
    pub magic: &'m [u8],
}

impl<'m> PostScript<'m> {
    pub fn read(bytes: &'m [u8]) -> Result<PostScript<'m>, String> {
        let mut message = Message::new(bytes);
        let mut out = PostScript { block_size: 256 << 10, ..PostScript::default() };
        while let Some((number, value)) = message.field()? {
            match number {
                1 => out.footer_length = value.number(),
                2 => out.compression = value.number(),
                3 => out.block_size = value.number(),
                8000 => out.magic = value.bytes(),
                _ => {}
            }
        }
        Ok(out)
    }
}

/// What a file has.
#[derive(Debug, Default)]
pub(super) struct Footer {
    pub stripes: Vec<StripeInfo>,
    pub types: Vec<Type>,
    pub encrypted: bool,
}

impl Footer {
    pub fn read(bytes: &[u8]) -> Result<Footer, String> {
        let mut message = Message::new(bytes);
        let mut out = Footer::default();
        while let Some((number, value)) = message.field()? {
            match number {
                3 => out.stripes.push(StripeInfo::read(value.bytes())?),
                4 => out.types.push(Type::read(value.bytes())?),
                10 => out.encrypted = true,
                _ => {}
            }
        }
        Ok(out)
    }
}

/// Where a stripe is.
#[derive(Debug, Default, Clone)]
pub(super) struct StripeInfo {
    pub offset: u64,
    pub index_length: u64,
    pub data_length: u64,
    pub footer_length: u64,
    pub rows: u64,
}

impl StripeInfo {
    fn read(bytes: &[u8]) -> Result<StripeInfo, String> {
        let mut message = Message::new(bytes);
        let mut out = StripeInfo::default();
        while let Some((number, value)) = message.field()? {
            match number {
                1 => out.offset = value.number(),
                2 => out.index_length = value.number(),
                3 => out.data_length = value.number(),
                4 => out.footer_length = value.number(),
                5 => out.rows = value.number(),
                _ => {}
            }
        }
        Ok(out)
    }
}

/// The types that columns have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Byte,
    Short,
    Int,
    Long,
    Float,
    Double,
    /// STRING, VARCHAR and CHAR.
    Text,
    Binary,
    Timestamp,
    /// A timestamp in UTC; the other one is on the writer's clock.
    Instant,
    List,
    Map,
    Struct,
    Union,
    Decimal,
    Date,
}

/// A column's type; nested ones name their children by place in the list of types.
#[derive(Debug, Clone)]
pub(super) struct Type {
    pub kind: Kind,
    pub children: Vec<usize>,
    pub names: Vec<String>,
    pub precision: u64,
    pub scale: u64,
}

impl Type {
    fn read(bytes: &[u8]) -> Result<Type, String> {
        const KINDS: [Kind; 19] = [
            Kind::Boolean,
            Kind::Byte,
            Kind::Short,
            Kind::Int,
            Kind::Long,
            Kind::Float,
            Kind::Double,
            Kind::Text,
            Kind::Binary,
            Kind::Timestamp,
            Kind::List,
            Kind::Map,
            Kind::Struct,
            Kind::Union,
            Kind::Decimal,
            Kind::Date,
            Kind::Text,
            Kind::Text,
            Kind::Instant,
        ];
        let mut message = Message::new(bytes);
        let mut out = Type { kind: Kind::Boolean, children: Vec::new(), names: Vec::new(), precision: 0, scale: 0 };
        let mut children = Vec::new();
        while let Some((number, value)) = message.field()? {
            match number {
                1 => {
                    let kind = usize::try_from(value.number()).ok().and_then(|kind| KINDS.get(kind));
                    out.kind = *kind.ok_or_else(|| format!("column type {} is not known", value.number()))?;
                }
                2 => value.numbers(&mut children)?,
                3 => out.names.push(String::from_utf8_lossy(value.bytes()).into_owned()),
                5 => out.precision = value.number(),
                6 => out.scale = value.number(),
                _ => {}
            }
        }
        out.children = children.into_iter().map(|child| usize::try_from(child).unwrap_or(usize::MAX)).collect();
        Ok(out)
    }
}

/// Refuses types that are not a tree: children come behind their parents, as many as the kind has.
pub(super) fn check_types(types: &[Type]) -> Result<(), String> {
    const DEPTH_MAX: usize = 100;
    let mut depth = vec![0; types.len()];
    for (at, found) in types.iter().enumerate() {
        let count = found.children.len();
        let fits = match found.kind {
            Kind::List => count == 1,
            Kind::Map => count == 2,
            Kind::Struct => count == found.names.len(),
            Kind::Union => count <= 127,
            _ => count == 0,
        };
        if !fits {
            return Err(format!("column {at} has {count} children"));
        }
        for &child in &found.children {
            if child <= at || child >= types.len() {
                return Err(format!("column {at} has a child {child}"));
            }
            depth[child] = depth[at] + 1;
            if depth[child] > DEPTH_MAX {
                return Err("columns are nested too deeply".to_owned());
            }
        }
    }
    Ok(())
}

/// What a stripe has.
#[derive(Debug, Default)]
pub(super) struct StripeFooter {
    pub streams: Vec<Stream>,
    pub encodings: Vec<Encoding>,
    pub zone: String,
}

impl StripeFooter {
    pub fn read(bytes: &[u8]) -> Result<StripeFooter, String> {
        let mut message = Message::new(bytes);
        let mut out = StripeFooter::default();
        while let Some((number, value)) = message.field()? {
            match number {
                1 => out.streams.push(Stream::read(value.bytes())?),
                2 => out.encodings.push(Encoding::read(value.bytes())?),
                3 => out.zone = String::from_utf8_lossy(value.bytes()).into_owned(),
                _ => {}
            }
        }
        Ok(out)
    }
}

/// A stream: bytes of one meaning of one column.
#[derive(Debug, Default, Clone)]
pub(super) struct Stream {
    pub kind: u64,
    pub column: usize,
    pub length: u64,
}

impl Stream {
    pub const PRESENT: u64 = 0;
    pub const DATA: u64 = 1;
    pub const LENGTH: u64 = 2;
    pub const DICTIONARY: u64 = 3;
    pub const SECONDARY: u64 = 5;

    fn read(bytes: &[u8]) -> Result<Stream, String> {
        let mut message = Message::new(bytes);
        let mut out = Stream::default();
        while let Some((number, value)) = message.field()? {
            match number {
                1 => out.kind = value.number(),
                2 => out.column = usize::try_from(value.number()).unwrap_or(usize::MAX),
                3 => out.length = value.number(),
                _ => {}
            }
        }
        Ok(out)
    }

    /// Whether it holds values, not an index over them.
    pub fn is_data(&self) -> bool {
        matches!(self.kind, Self::PRESENT | Self::DATA | Self::LENGTH | Self::DICTIONARY | Self::SECONDARY)
    }
}

/// How a column is encoded.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Encoding {
    pub dictionary: bool,
    /// Whether integers are in the second of the run-length encodings.
    pub second: bool,
    pub dictionary_size: u64,
}

impl Encoding {
    fn read(bytes: &[u8]) -> Result<Encoding, String> {
        let mut message = Message::new(bytes);
        let mut out = Encoding::default();
        while let Some((number, value)) = message.field()? {
            match number {
                1 => {
                    out.dictionary = matches!(value.number(), 1 | 3);
                    out.second = matches!(value.number(), 2 | 3);
                    if value.number() > 3 {
                        return Err(format!("column encoding {} is not known", value.number()));
                    }
                }
                2 => out.dictionary_size = value.number(),
                _ => {}
            }
        }
        Ok(out)
    }
}
