//! Metadata: kept as the text that they were given as. Of their content, only names are looked at.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser,
};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    error::{Error, Invalid},
    json,
};

/// What is known about an event beside its payload: a JSON object in which each name stands once.
///
/// Four names have a meaning, and become headers of the published message: `correlation_id`, `causation_id`,
/// `traceparent` and `tracestate` (W3C Trace Context). All others are the user's own.
///
/// Metadata are stored byte for byte as they were given: numbers, order, and white space. Two are equal if their texts are. An
/// empty object is the same as no metadata. `serde_json` writes and reads them as an object, byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(
    /// An object with at least one name, or nothing.
    String,
);

impl Metadata {
    /// Id of the conversation or process that an event belongs to.
    pub const CORRELATION_ID: &str = "correlation_id";
    /// Id of the command or event that caused an event.
    pub const CAUSATION_ID: &str = "causation_id";
    /// W3C Trace Context: the trace and the span in which an event was appended.
    pub const TRACEPARENT: &str = "traceparent";
    /// W3C Trace Context: what vendors add to it.
    pub const TRACESTATE: &str = "tracestate";

    /// The metadata that become headers of the published message, under the same names. An append limits their sum: see
    /// [`MAX_MESSAGE_HEADER_BYTES`](crate::limits::MAX_MESSAGE_HEADER_BYTES).
    pub const HEADERS: [&str; 4] = [Self::CORRELATION_ID, Self::CAUSATION_ID, Self::TRACEPARENT, Self::TRACESTATE];

    /// No metadata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same metadata with `name` set to `value`, which is written as `serde_json` does. What is there already stays as it
    /// is, a new name comes last. With `None` or null nothing is stored, as by [`without`](Self::without).
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let (name, value) = (name.into(), value.into());
        if value.is_null() {
            return self.without(&name);
        }
        self.set(&name, &value.to_string());
        self
    }

    /// The same metadata without `name`.
    #[must_use]
    pub fn without(self, name: &str) -> Self {
        if self.json(name).is_none() {
            return self;
        }
        let mut others = Self::new();
        for (other, value) in self.members() {
            if other != name {
                others.set(&other, value.get());
            }
        }
        others
    }

    /// The same metadata with those of `over` added; if both have a name, that of `over` counts.
    #[must_use]
    pub(crate) fn overlaid_with(mut self, over: &Self) -> Self {
        for (name, value) in over.members() {
            self.set(&name, value.get());
        }
        self
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        if let Some(old) = self.json(name) {
            let start = old.as_ptr().addr() - self.0.as_ptr().addr();
            let end = start + old.len();
            self.0.replace_range(start..end, value);
            return;
        }
        let member = format!("{}:{value}", Value::from(name));
        match self.0.rfind('}') {
            Some(end) => self.0.insert_str(end, &format!(",{member}")),
            None => self.0 = format!("{{{member}}}"),
        }
    }

    /// The value of `name`: JSON text, as it was given.
    #[must_use]
    pub fn json(&self, name: &str) -> Option<&str> {
        self.members().into_iter().find(|(member, _)| member == name).map(|(_, value)| value.get())
    }

    /// The value of `name` if it is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        text(self.json(name)?)
    }

    /// The value of `name` as it stands in a message's header: a text as it is, anything else as its JSON text.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<Cow<'_, str>> {
        let json = self.json(name)?;
        Some(text(json).unwrap_or(Cow::Borrowed(json)))
    }

    /// What a consumer gets of them: those of [`HEADERS`](Self::HEADERS), each as the text of its header.
    #[must_use]
    pub(crate) fn in_message(&self) -> Self {
        let members = self.members();
        let mut published = String::new();
        for name in Self::HEADERS {
            let Some((_, value)) = members.iter().find(|(member, _)| member == name) else { continue };
            let value = text(value.get()).unwrap_or(Cow::Borrowed(value.get()));
            published.push(if published.is_empty() { '{' } else { ',' });
            published.push_str(&Value::from(name).to_string());
            published.push(':');
            published.push_str(&Value::from(value).to_string());
        }
        if !published.is_empty() {
            published.push('}');
        }
        Self(published)
    }

    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The metadata as JSON text: as it was given, `{}` if nothing is set.
    #[must_use]
    pub fn as_json_text(&self) -> &str {
        self.stored().unwrap_or("{}")
    }

    /// The text that is stored, if there is one.
    pub(crate) fn stored(&self) -> Option<&str> {
        (!self.is_empty()).then_some(self.0.as_str())
    }

    /// Takes metadata from JSON text, which is kept byte for byte.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the text is not a JSON object, repeats a name, or has more than
    /// [`MAX_JSON_DEPTH`](crate::limits::MAX_JSON_DEPTH) levels.
    pub fn from_json_text(text: impl Into<String>) -> Result<Self, Error> {
        Ok(Self::checked(text.into())?)
    }

    fn checked(text: String) -> Result<Self, Invalid> {
        let refuse = |why| Invalid::Metadata { why };
        let Members(members) = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        let mut names = HashSet::with_capacity(members.len());
        for (name, value) in &members {
            if !names.insert(name) {
                return Err(refuse(format!("the name {} is repeated", Value::from(name.as_ref()))));
            }
            // JSON can escape half a character, which no header can carry.
            if Self::HEADERS.contains(&name.as_ref()) && value.get().starts_with('"') {
                serde_json::from_str::<Text<'_>>(value.get()).map_err(|error| refuse(format!("{name}: {error}")))?;
            }
        }
        let is_empty = members.is_empty();
        json::check_depth("metadata", &text)?;
        Ok(Self(if is_empty { String::new() } else { text }))
    }

    fn members(&self) -> Vec<(Cow<'_, str>, &RawValue)> {
        if self.is_empty() {
            return Vec::new();
        }
        let Members(members) = serde_json::from_str(&self.0).expect("metadata are checked when they are made");
        members
    }
}

impl From<Map<String, Value>> for Metadata {
    fn from(map: Map<String, Value>) -> Self {
        Self(if map.is_empty() { String::new() } else { Value::from(map).to_string() })
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object: &RawValue = serde_json::from_str(self.as_json_text()).map_err(ser::Error::custom)?;
        object.serialize(serializer)
    }
}

/// Checks the object as [`Metadata::from_json_text`] does.
impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = <Box<RawValue>>::deserialize(deserializer)?;
        Self::checked(object.get().to_owned()).map_err(de::Error::custom)
    }
}

/// The text that a JSON value is, if it is one.
fn text(json: &str) -> Option<Cow<'_, str>> {
    let Text(text) = serde_json::from_str(json).ok()?;
    Some(text)
}

/// A JSON string, copied only if it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What an object has, in its order.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = object.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn metadata(text: &str) -> Metadata {
        Metadata::from_json_text(text).unwrap()
    }

    #[test]
    fn g12_metadata_are_kept_byte_for_byte_and_only_what_is_set_changes() {
        let text = "{\"id\":12345678901234567890123, \"a\" : 1e2,\n\"price\":1.10,\"deep\":{\"x\":1,\"x\":2} }\n";
        let given = metadata(text);
        assert_eq!(given.as_json_text(), text);
        assert_eq!((given.json("id"), given.json("a")), (Some("12345678901234567890123"), Some("1e2")));
        let longer = given.with("a", json!({"b": "}"})).with("new \"name\"", 1);
        assert_eq!(
            longer.as_json_text(),
            text.replace("1e2", r#"{"b":"}"}"#).replace(" }\n", " ,\"new \\\"name\\\"\":1}\n")
        );
        assert_eq!(longer.json("new \"name\""), Some("1"));
        let less = longer.without("deep").without("new \"name\"").without("never");
        assert_eq!(less.as_json_text(), r#"{"id":12345678901234567890123,"a":{"b":"}"},"price":1.10}"#);
    }

    #[test]
    fn nothing_is_stored_of_none() {
        let none = Metadata::new().with("tenant", "a").with("tenant", None::<String>).with("user", Value::Null);
        assert_eq!(none, Metadata::new());
        assert_eq!(Metadata::new().with("user", Some("ann")).as_json_text(), r#"{"user":"ann"}"#);
    }

    #[test]
    fn g12_serde_writes_and_reads_metadata_byte_for_byte() {
        for text in [r#"{"big":12345678901234567890123, "a" : 1e2}"#, "{}"] {
            let given = metadata(text);
            assert_eq!(serde_json::to_string(&[&given]).unwrap(), format!("[{text}]"));
            assert_eq!(serde_json::from_str::<[Metadata; 1]>(&format!("[{text}]")).unwrap(), [given]);
        }
        let error = serde_json::from_str::<Metadata>(r#"{"a":1,"a":2}"#).unwrap_err().to_string();
        assert!(error.contains("repeated"), "{error}");
    }

    #[test]
    fn an_empty_object_is_no_metadata() {
        for none in
            [Metadata::new(), metadata("{}"), metadata(" { } "), Map::new().into(), metadata(r#"{"a":1}"#).without("a")]
        {
            assert!(none.is_empty() && none.stored().is_none() && none.json("a").is_none());
            assert_eq!(none.as_json_text(), "{}");
        }
    }

    #[test]
    fn what_could_not_be_read_again_is_refused() {
        let (deep, surrogate) = (format!("{{\"a\":{}}}", json::nested(100)), r#"{"correlation_id":"\ud800"}"#);
        for (text, why) in [
            ("[]", "JSON object"),
            ("null", "JSON object"),
            ("{\"a\":1}}", "trailing characters"),
            ("{\"a\":}", "expected value"),
            (r#"{"dup":1,"b":2,"d\u0075p":1}"#, "the name \"dup\" is repeated"),
            (r#"{"\ud800":1}"#, "hex escape"),
            (surrogate, "correlation_id"),
            (&deep, "at most 100 levels of arrays and objects, got 101"),
        ] {
            let error = Metadata::from_json_text(text).expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
        let deepest = metadata(&format!("{{\"a\":{}}}", json::nested(99)));
        assert_eq!(deepest.json("a").map(json::depth), Some(99));
    }

    #[test]
    fn a_header_is_a_text_as_it_is_and_anything_else_as_its_json() {
        let given = metadata(r#"{"correlation_id":"a\"b","causation_id":1.10,"tracestate":"plain","null":null}"#);
        assert_eq!(given.header_text(Metadata::CORRELATION_ID).as_deref(), Some("a\"b"));
        assert_eq!(given.header_text(Metadata::CAUSATION_ID).as_deref(), Some("1.10"));
        assert!(matches!(given.text(Metadata::TRACESTATE), Some(Cow::Borrowed("plain"))));
        assert_eq!((given.text(Metadata::CAUSATION_ID), given.header_text("null").as_deref()), (None, Some("null")));
    }

    proptest! {
        /// Whatever is set in whatever order, the text is sound and has the last value of each name.
        #[test]
        fn names_that_are_set_are_found(sets in proptest::collection::vec(("[a-c\"\\\\é]{0,2}", ".{0,4}"), 0..8)) {
            let mut expected = std::collections::BTreeMap::new();
            let mut metadata = Metadata::new();
            for (name, value) in sets {
                expected.insert(name.clone(), value.clone());
                metadata = metadata.with(name, value);
            }
            prop_assert_eq!(&Metadata::from_json_text(metadata.as_json_text()).unwrap(), &metadata);
            for (name, value) in &expected {
                let found = metadata.text(name);
                prop_assert_eq!(found.as_deref(), Some(value.as_str()));
            }
            for name in expected.keys() {
                metadata = metadata.without(name);
            }
            prop_assert!(metadata.is_empty());
        }
    }
}
