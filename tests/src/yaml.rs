//! YAML as CloudFormation takes it, and what Kubernetes and Prometheus have in common with it: tags are CloudFormation's functions, and aliases
//! are not allowed.

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Map, Value, json};

/// Parses a document; `!Ref x` becomes `{"Ref": "x"}`, `!Sub x` becomes `{"Fn::Sub": "x"}`, and so on.
///
/// # Panics
/// If it is not YAML, or YAML that CloudFormation would not take.
#[must_use]
pub fn parse(text: &str) -> Value {
    let mut reader = Reader(Parser::new_from_str(text));
    loop {
        match reader.next() {
            Event::StreamStart | Event::DocumentStart(_) => {}
            event => return reader.value(event),
        }
    }
}

struct Reader<'a>(Parser<'a, StrInput<'a>>);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Event<'a> {
        let (event, _) = self.0.next_event().expect("it does not end early").expect("it is YAML");
        event
    }

    fn value(&mut self, event: Event<'a>) -> Value {
        match event {
            Event::Scalar(text, style, _, tag) => match tag {
                Some(tag) => function(&tag, &Value::from(text)),
                None if style == ScalarStyle::Plain => plain(&text),
                None => Value::from(text),
            },
            Event::SequenceStart(_, tag) => {
                let list = self.list();
                tag.map(|tag| function(&tag, &list)).unwrap_or(list)
            }
            Event::MappingStart(_, tag) => {
                let map = self.map();
                tag.map(|tag| function(&tag, &map)).unwrap_or(map)
            }
            Event::Alias(_) => panic!("no aliases are allowed"),
            event => panic!("{event:?} is not a value"),
        }
    }

    fn list(&mut self) -> Value {
        let mut list = Vec::new();
        loop {
            match self.next() {
                Event::SequenceEnd => return Value::Array(list),
                event => list.push(self.value(event)),
            }
        }
    }

    fn map(&mut self) -> Value {
        let mut map = Map::new();
        loop {
            let key = match self.next() {
                Event::MappingEnd => return Value::Object(map),
                Event::Scalar(key, ..) => key.into_owned(),
                event => panic!("{event:?} is not a key"),
            };
            let event = self.next();
            let before = map.insert(key.clone(), self.value(event));
            assert_eq!(before, None, "{key} stands there twice");
        }
    }
}

fn function(tag: &Tag, argument: &Value) -> Value {
    assert_eq!(tag.handle, "!", "{tag} is not a function of CloudFormation");
    match (tag.suffix.as_str(), argument) {
        (name @ ("Ref" | "Condition"), _) => json!({ name: argument }),
        ("GetAtt", Value::String(path)) => {
            let (resource, attribute) = path.split_once('.').expect("a resource and an attribute");
            json!({ "Fn::GetAtt": [resource, attribute] })
        }
        (name, _) => json!({ format!("Fn::{name}"): argument }),
    }
}

/// YAML's core schema, as far as it is used here.
fn plain(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "" | "~" | "null" => Value::Null,
        _ => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_become_long_ones() {
        let text = "a: !Ref b\nc: !Sub '${d}-e'\nf: !GetAtt g.h.i\nj: !If [k, 1, !Ref AWS::NoValue]\nl: !And\n  - !Condition m\n  - true";
        let expected = json!({
            "a": { "Ref": "b" },
            "c": { "Fn::Sub": "${d}-e" },
            "f": { "Fn::GetAtt": ["g", "h.i"] },
            "j": { "Fn::If": ["k", 1, { "Ref": "AWS::NoValue" }] },
            "l": { "Fn::And": [{ "Condition": "m" }, true] },
        });
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn quoted_scalars_are_text() {
        assert_eq!(parse("[1, '1', \"true\", true, x]"), json!([1, "1", "true", true, "x"]));
    }

    #[test]
    #[should_panic(expected = "no aliases are allowed")]
    fn an_alias_is_refused() {
        let _ = parse("a: &b 1\nc: *b");
    }

    #[test]
    #[should_panic(expected = "stands there twice")]
    fn a_key_that_stands_there_twice_is_refused() {
        let _ = parse("a: 1\na: 2");
    }
}
