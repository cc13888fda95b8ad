//! AMF0 values, the arguments of RTMP commands (Adobe "Action Message Format, AMF 0", 2007).
//!
//! Reading is bounded in depth and bytes, so that a peer without credentials cannot make it costly.
//! References, typed recordsets and AMF3 values inside AMF0 are refused: no RTMP client sends them
//! in commands.

use bytes::{Buf, BufMut, BytesMut};

/// Values nested deeper than this are refused.
pub(crate) const DEPTH_MAX: usize = 16;

/// How much of a message is taken as values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of one object, array or string at the top of the message.
    pub(crate) value_bytes: usize,
    /// Values of the message, members counted.
    pub(crate) values: usize,
}

impl Limits {
    /// Of commands, which come from peers without credentials.
    pub(crate) const COMMAND: Self = Self { value_bytes: 4096, values: 256 };

    /// Of metadata, which comes from publishers.
    pub(crate) const DATA: Self = Self { value_bytes: 64 << 10, values: 4096 };
}

/// Why bytes are not an AMF0 value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmfError {
    /// The message ends inside a value.
    #[error("AMF0: {wanted} ends early at byte {at}")]
    Short {
        /// What was being read.
        wanted: &'static str,
        /// Offset in the message.
        at: usize,
    },
    /// A marker that commands do not use.
    #[error("AMF0: type marker {marker:#04x} at byte {at} is not supported")]
    Marker {
        /// The byte.
        marker: u8,
        /// Offset in the message.
        at: usize,
    },
    /// More levels than commands need.
    #[error("AMF0: values are nested deeper than {DEPTH_MAX} at byte {at}")]
    Deep {
        /// Offset in the message.
        at: usize,
    },
    /// One value is larger than commands need.
    #[error("AMF0: the value at byte {at} is larger than {limit} bytes")]
    Large {
        /// Offset in the message.
        at: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// More values than commands need.
    #[error("AMF0: more than {0} values")]
    Many(usize),
    /// A string that is not UTF-8.
    #[error("AMF0: the string at byte {at} is not UTF-8")]
    Text {
        /// Offset in the message.
        at: usize,
    },
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// A double.
    Number(f64),
    /// A truth value.
    Boolean(bool),
    /// A short or long string.
    String(String),
    /// Names and values in the order of the wire. Also a typed object without its class name.
    Object(Vec<(String, Value)>),
    /// The same with an advisory count before it.
    EcmaArray(Vec<(String, Value)>),
    /// Values in order.
    StrictArray(Vec<Value>),
    /// Milliseconds since 1970.
    Date(f64),
    /// Nothing.
    Null,
    /// Less than nothing; also "unsupported".
    Undefined,
}

impl Value {
    /// The member `name` of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Object(members) | Self::EcmaArray(members) => {
                members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The text, if it is one.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub(crate) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Appends the value's bytes. Strings beyond 4 GiB do not exist here.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Number(number) => {
                out.put_u8(0x00);
                out.put_f64(*number);
            }
            Self::Boolean(truth) => out.put_slice(&[0x01, u8::from(*truth)]),
            Self::String(text) => match u16::try_from(text.len()) {
                Ok(length) => {
                    out.put_u8(0x02);
                    out.put_u16(length);
                    out.put_slice(text.as_bytes());
                }
                Err(_) => {
                    out.put_u8(0x0C);
                    out.put_u32(text.len() as u32);
                    out.put_slice(text.as_bytes());
                }
            },
            Self::Object(members) => {
                out.put_u8(0x03);
                write_members(members, out);
            }
            Self::EcmaArray(members) => {
                out.put_u8(0x08);
                out.put_u32(members.len() as u32);
                write_members(members, out);
            }
            Self::StrictArray(values) => {
                out.put_u8(0x0A);
                out.put_u32(values.len() as u32);
                values.iter().for_each(|value| value.write(out));
            }
            Self::Date(ms) => {
                out.put_u8(0x0B);
                out.put_f64(*ms);
                out.put_u16(0);
            }
            Self::Null => out.put_u8(0x05),
            Self::Undefined => out.put_u8(0x06),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

/// An object of the given members.
pub(crate) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.map(|(name, value)| (name.to_owned(), value)).into())
}

fn write_members(members: &[(String, Value)], out: &mut BytesMut) {
    for (name, value) in members {
        // A member's name has two length bytes; ours are words of the protocol.
        let length = name.len().min(usize::from(u16::MAX));
        out.put_u16(length as u16);
        out.put_slice(&name.as_bytes()[..length]);
        value.write(out);
    }
    out.put_slice(&[0, 0, 9]);
}

/// All values of a message, one after the other.
///
/// # Errors
/// [`AmfError`] with the place of the first broken value.
pub(crate) fn read_all(bytes: &[u8], limits: Limits) -> Result<Vec<Value>, AmfError> {
    let mut reader = Reader { all: bytes, at: 0, values: 0, values_max: limits.values };
    let mut values = Vec::new();
    while reader.at < bytes.len() {
        let at = reader.at;
        // A value is refused while it is read, not after it was built.
        let end = bytes.len().min(at.saturating_add(limits.value_bytes));
        reader.all = &bytes[..end];
        match reader.value(0) {
            Err(AmfError::Short { .. }) if end < bytes.len() => {
                return Err(AmfError::Large { at, limit: limits.value_bytes });
            }
            other => values.push(other?),
        }
    }
    Ok(values)
}

struct Reader<'a> {
    all: &'a [u8],
    at: usize,
    values: usize,
    values_max: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, wanted: &'static str) -> Result<&'a [u8], AmfError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.all.len());
        let end = end.ok_or(AmfError::Short { wanted, at: self.at })?;
        let taken = &self.all[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn text(&mut self, length: usize) -> Result<String, AmfError> {
        let at = self.at;
        let bytes = self.take(length, "a string")?;
        let text = std::str::from_utf8(bytes).map_err(|_| AmfError::Text { at })?;
        Ok(text.to_owned())
    }

    fn u16(&mut self, wanted: &'static str) -> Result<usize, AmfError> {
        Ok(usize::from(self.take(2, wanted)?.get_u16()))
    }

    fn u32(&mut self, wanted: &'static str) -> Result<usize, AmfError> {
        Ok(self.take(4, wanted)?.get_u32() as usize)
    }

    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        let at = self.at;
        if depth > DEPTH_MAX {
            return Err(AmfError::Deep { at });
        }
        self.values += 1;
        if self.values > self.values_max {
            return Err(AmfError::Many(self.values_max));
        }
        Ok(match self.take(1, "a type marker")?[0] {
            0x00 => Value::Number(self.take(8, "a number")?.get_f64()),
            0x01 => Value::Boolean(self.take(1, "a boolean")?[0] != 0),
            0x02 => {
                let length = self.u16("a string's length")?;
                Value::String(self.text(length)?)
            }
            0x03 => Value::Object(self.members(depth)?),
            0x05 => Value::Null,
            0x06 | 0x0D => Value::Undefined,
            0x08 => {
                self.u32("an array's count")?;
                Value::EcmaArray(self.members(depth)?)
            }
            0x0A => {
                let count = self.u32("an array's count")?;
                // The count is the peer's word: nothing is reserved for it.
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(depth + 1)?);
                }
                Value::StrictArray(values)
            }
            0x0B => {
                let ms = self.take(8, "a date")?.get_f64();
                self.take(2, "a date's zone")?;
                Value::Date(ms)
            }
            0x0C | 0x0F => {
                let length = self.u32("a long string's length")?;
                Value::String(self.text(length)?)
            }
            0x10 => {
                let length = self.u16("a class name's length")?;
                self.take(length, "a class name")?;
                Value::Object(self.members(depth)?)
            }
            marker => return Err(AmfError::Marker { marker, at }),
        })
    }

    fn members(&mut self, depth: usize) -> Result<Vec<(String, Value)>, AmfError> {
        let mut members = Vec::new();
        loop {
            let length = self.u16("a member's name")?;
            if length == 0 && self.all.get(self.at) == Some(&0x09) {
                self.at += 1;
                return Ok(members);
            }
            let name = self.text(length)?;
            members.push((name, self.value(depth + 1)?));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(values: &[Value]) -> BytesMut {
        let mut out = BytesMut::new();
        values.iter().for_each(|value| value.write(&mut out));
        out
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<f64>()
                .prop_filter("NaN is unlike itself", |n| !n.is_nan())
                .prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            "[a-zäß\u{4e00}]{0,20}".prop_map(Value::String),
            Just(Value::Null),
            Just(Value::Undefined),
            (0.0..1e15).prop_map(Value::Date),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let members = prop::collection::vec(("[a-z]{1,8}", inner.clone()), 0..4);
            prop_oneof![
                members.clone().prop_map(Value::Object),
                members.prop_map(Value::EcmaArray),
                prop::collection::vec(inner, 0..4).prop_map(Value::StrictArray),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(values in prop::collection::vec(any_value(), 0..4)) {
            prop_assert_eq!(read_all(&bytes_of(&values), Limits::DATA), Ok(values));
        }

        #[test]
        fn any_bytes_end_in_values_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_all(&bytes, Limits::COMMAND);
        }

        #[test]
        fn a_cut_message_is_an_error(value in any_value(), cut in 1_usize..40) {
            let bytes = bytes_of(&[value]);
            let end = bytes.len().saturating_sub(cut);
            prop_assert!(end == 0 || read_all(&bytes[..end], Limits::DATA).is_err());
        }
    }

    #[test]
    fn a_value_beyond_a_limit_is_refused_with_its_place() {
        let mut deep = [0x0A, 0, 0, 0, 1].repeat(17);
        deep.push(0x05);
        assert_eq!(read_all(&deep, Limits::COMMAND), Err(AmfError::Deep { at: 85 }));
        let mut level = [0x0A, 0, 0, 0, 1].repeat(16);
        level.push(0x05);
        assert!(read_all(&level, Limits::COMMAND).is_ok());

        let long = bytes_of(&[Value::Null, Value::String("x".repeat(5000))]);
        assert_eq!(read_all(&long, Limits::COMMAND), Err(AmfError::Large { at: 1, limit: 4096 }));

        let many = [0x05; 257];
        assert_eq!(read_all(&many, Limits::COMMAND), Err(AmfError::Many(256)));
        // An array that claims four thousand million members holds none.
        assert!(matches!(
            read_all(&[0x0A, 255, 255, 255, 255], Limits::COMMAND),
            Err(AmfError::Short { .. })
        ));
        assert_eq!(
            read_all(&[0x11, 0], Limits::COMMAND),
            Err(AmfError::Marker { marker: 0x11, at: 0 })
        );
        assert_eq!(read_all(&[2, 0, 1, 0xFF], Limits::COMMAND), Err(AmfError::Text { at: 3 }));
    }
}
