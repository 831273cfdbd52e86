//! JSON text of a value that can be read back: `serde_json` writes a float that is not finite as `null`, and so loses
//! it; and what it reads has 127 levels at most.

use std::fmt::Display;

use serde::{
    Serialize,
    ser::{self, Serializer},
};

use crate::{error::Invalid, limits::MAX_JSON_DEPTH};

/// The JSON text of `value`.
///
/// # Errors
/// Whatever the value's own `Serialize` says, a map key that is no text, a float that is not finite.
pub(crate) fn to_text(value: &(impl Serialize + ?Sized)) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string(value)?;
    // A lost float has become `null`: without one, nothing is lost.
    if text.contains("null") {
        value.serialize(Finite).map_err(|NotFinite(why)| ser::Error::custom(why))?;
    }
    Ok(text)
}

/// The most levels that `serde_json` reads.
pub(crate) const READABLE_DEPTH: usize = 127;

/// Checks how deeply a JSON text is nested.
pub(crate) fn check_depth(what: &'static str, text: &str) -> Result<(), Invalid> {
    match depth(text) {
        depth if depth > MAX_JSON_DEPTH => Err(Invalid::TooDeep { what, limit: MAX_JSON_DEPTH, depth }),
        _ => Ok(()),
    }
}

/// The most arrays and objects that lie within each other in a text that is known to be JSON.
pub(crate) fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                // To the closing quote. An escape has at least one more byte, which may be a quote.
                while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
                    if byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// Arrays within each other, for tests.
#[cfg(test)]
pub(crate) fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

/// Goes through a value and stops at a float that is not finite.
#[derive(Clone, Copy)]
struct Finite;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotFinite(String);

impl ser::Error for NotFinite {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

fn check(value: f64) -> Result<(), NotFinite> {
    if value.is_finite() { Ok(()) } else { Err(NotFinite(format!("JSON has no {value}"))) }
}

macro_rules! pass {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, _: $type) -> Result<(), NotFinite> { Ok(()) })*
    };
}

impl Serializer for Finite {
    type Ok = ();
    type Error = NotFinite;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    pass! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128, serialize_char: char,
        serialize_str: &str, serialize_bytes: &[u8], serialize_unit_struct: &'static str,
    }

    fn serialize_f32(self, value: f32) -> Result<(), NotFinite> {
        check(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), NotFinite> {
        check(value)
    }

    fn serialize_none(self) -> Result<(), NotFinite> {
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), NotFinite> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), NotFinite> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NotFinite> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), NotFinite> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), NotFinite> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }
}

macro_rules! elements {
    ($($trait:ident: $method:ident),* $(,)?) => {
        $(impl ser::$trait for Finite {
            type Ok = ();
            type Error = NotFinite;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotFinite> {
                value.serialize(*self)
            }

            fn end(self) -> Result<(), NotFinite> {
                Ok(())
            }
        })*
    };
}

elements! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! fields {
    ($($trait:ident),* $(,)?) => {
        $(impl ser::$trait for Finite {
            type Ok = ();
            type Error = NotFinite;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), NotFinite> {
                value.serialize(*self)
            }

            fn end(self) -> Result<(), NotFinite> {
                Ok(())
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Finite {
    type Ok = ();
    type Error = NotFinite;

    /// A key that is not finite has been refused by `serde_json` itself.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), NotFinite> {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotFinite> {
        value.serialize(*self)
    }

    fn end(self) -> Result<(), NotFinite> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    struct Deep<T> {
        none: Option<u8>,
        list: Vec<BTreeMap<&'static str, (u8, Option<T>)>>,
    }

    #[derive(Serialize)]
    enum Variant {
        Newtype(f64),
        Tuple(u8, f32),
        Struct { value: f64 },
    }

    fn deep<T>(value: T) -> Deep<T> {
        Deep { none: None, list: vec![BTreeMap::from([("a", (1, Some(value)))])] }
    }

    #[test]
    fn a_float_that_is_not_finite_is_refused_however_deep_it_lies() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = to_text(&deep(value)).expect_err("refused").to_string();
            assert_eq!(error, format!("JSON has no {value}"));
            to_text(&deep(Variant::Newtype(value))).expect_err("refused");
            to_text(&deep(Variant::Struct { value })).expect_err("refused");
        }
        to_text(&deep(Variant::Tuple(1, f32::NAN))).expect_err("refused");
    }

    #[test]
    fn the_depth_is_that_of_arrays_and_objects_outside_of_texts() {
        for (text, levels) in
            [("1", 0), (r#""[[[\"[{""#, 0), ("[]", 1), (r#"{"a\\":[1,{"[":"}"}],"b":[]}"#, 3), ("[[],[[]],[]]", 3)]
        {
            assert_eq!(depth(text), levels, "{text}");
        }
    }

    #[test]
    fn g12_what_is_taken_leaves_room_for_what_is_put_around_it() {
        let wrapped = format!("{{\"events\":[{{\"data\":{}}}]}}", nested(MAX_JSON_DEPTH));
        serde_json::from_str::<serde_json::Value>(&wrapped).expect("there is room");
        let readable = |levels| serde_json::from_str::<serde_json::Value>(&nested(levels)).is_ok();
        assert!(readable(READABLE_DEPTH) && !readable(READABLE_DEPTH + 1));
    }

    #[test]
    fn what_json_can_hold_is_written_as_serde_json_does() {
        assert_eq!(to_text(&deep(1.5)).unwrap(), serde_json::to_string(&deep(1.5)).unwrap());
        assert_eq!(to_text(&()).unwrap(), "null");
        assert_eq!(to_text(&deep("null")).unwrap(), serde_json::to_string(&deep("null")).unwrap());
    }
}
