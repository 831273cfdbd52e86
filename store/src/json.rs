//! JSON text that can be read back. `serde_json` writes a float that is not finite as `null` and so loses it, and it reads at most
//! 127 levels.

use serde::{
    Serialize,
    ser::{self, Serializer},
};

use crate::{error::Invalid, limits::MAX_JSON_DEPTH};

/// The JSON text of `value`.
///
/// # Errors
/// An error of the value's own `Serialize`, a map key that is not a text, a float that is not finite.
pub(crate) fn to_text(value: &(impl Serialize + ?Sized)) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string(value)?;
    // A lost float has become `null`: without one, nothing is lost.
    if text.contains("null") {
        value.serialize(FiniteFloats)?;
    }
    Ok(text)
}

/// The most levels that `serde_json` reads.
pub(crate) const READABLE_DEPTH: usize = 127;

/// Checks how deeply a JSON text is nested.
pub(crate) fn check_depth(what: &'static str, text: &str) -> Result<(), Invalid> {
    // Most texts open fewer than there may be levels, wherever, and bytes are quickly counted.
    if text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() <= MAX_JSON_DEPTH {
        return Ok(());
    }
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

/// Visits every float of a value, and fails at one that is not finite. `serde_json` writes that as it writes `None`, so neither its
/// text nor its formatter can tell them apart, and only a serializer of its own can.
#[derive(Clone, Copy)]
struct FiniteFloats;

type Checked = Result<(), serde_json::Error>;

fn finite(value: f64) -> Checked {
    if value.is_finite() { Ok(()) } else { Err(ser::Error::custom(format_args!("JSON has no {value}"))) }
}

/// `leaves` have no float in them, `wrappers` one value, `containers` parts.
macro_rules! serializer {
    (
        leaves: $($leaf:ident($($leaf_type:ty),*)),*;
        wrappers: $($wrapper:ident($($wrapper_type:ty),*)),*;
        containers: $($container:ident($($container_type:ty),*) $part:ident { $($visit:ident($($name:ty)?)),* }),*
    ) => {
        impl Serializer for FiniteFloats {
            type Ok = ();
            type Error = serde_json::Error;
            $(type $part = Self;)*

            fn serialize_f32(self, value: f32) -> Checked {
                finite(value.into())
            }

            fn serialize_f64(self, value: f64) -> Checked {
                finite(value)
            }

            $(fn $leaf(self, $(_: $leaf_type),*) -> Checked {
                Ok(())
            })*

            $(fn $wrapper<T: Serialize + ?Sized>(self, $(_: $wrapper_type,)* value: &T) -> Checked {
                value.serialize(self)
            })*

            $(fn $container(self, $(_: $container_type),*) -> Result<Self, serde_json::Error> {
                Ok(self)
            })*
        }

        $(impl ser::$part for FiniteFloats {
            type Ok = ();
            type Error = serde_json::Error;

            $(fn $visit<T: Serialize + ?Sized>(&mut self, $(_: $name,)? value: &T) -> Checked {
                value.serialize(*self)
            })*

            fn end(self) -> Checked {
                Ok(())
            }
        })*
    };
}

serializer! {
    leaves: serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64),
        serialize_u128(u128), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]), serialize_none(),
        serialize_unit(), serialize_unit_struct(&'static str), serialize_unit_variant(&'static str, u32, &'static str);
    wrappers: serialize_some(), serialize_newtype_struct(&'static str),
        serialize_newtype_variant(&'static str, u32, &'static str);
    containers: serialize_seq(Option<usize>) SerializeSeq { serialize_element() },
        serialize_tuple(usize) SerializeTuple { serialize_element() },
        serialize_tuple_struct(&'static str, usize) SerializeTupleStruct { serialize_field() },
        serialize_tuple_variant(&'static str, u32, &'static str, usize) SerializeTupleVariant { serialize_field() },
        serialize_map(Option<usize>) SerializeMap { serialize_key(), serialize_value() },
        serialize_struct(&'static str, usize) SerializeStruct { serialize_field(&'static str) },
        serialize_struct_variant(&'static str, u32, &'static str, usize) SerializeStructVariant { serialize_field(&'static str) }
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
