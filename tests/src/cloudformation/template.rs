//! Templates, resolved as CloudFormation does it.

use std::{collections::HashMap, path::PathBuf};

use serde_json::{Map, Value, json};

use crate::yaml;

/// A template of `infra`, its functions in their long form.
#[derive(Clone, Debug)]
pub struct Template {
    /// Its file's name.
    pub name: String,
    /// The text of the file.
    pub text: String,
    value: Value,
}

impl Template {
    /// Reads one.
    ///
    /// # Panics
    /// If there is none of that name, or it is none.
    #[must_use]
    pub fn read(name: &str) -> Self {
        let path = directory().join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let value = yaml::parse(&text);
        Self { name: name.to_owned(), text, value }
    }

    /// Reads all of them.
    ///
    /// # Panics
    /// If one of them is none.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let files = std::fs::read_dir(directory()).expect("the templates are there");
        let files = files.map(|file| PathBuf::from(file.expect("a file").file_name()));
        let templates = files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml"));
        let mut names: Vec<_> = templates.map(|file| file.to_string_lossy().into_owned()).collect();
        names.sort();
        names.iter().map(|name| Self::read(name)).collect()
    }

    /// A section, such as `Parameters`; empty if there is none.
    ///
    /// # Panics
    /// If it is not a map.
    pub fn section(&self, name: &str) -> impl Iterator<Item = (&str, &Value)> {
        let section = self.value.get(name).map(|section| section.as_object().expect("a section is a map"));
        section.into_iter().flatten().map(|(name, value)| (name.as_str(), value))
    }

    /// The whole of it.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// A stack of it: parameters that are not given have their defaults; `exports` is what other stacks export.
    ///
    /// # Panics
    /// If a parameter without a default is not given, or one is given that there is not.
    #[must_use]
    pub fn stack(&self, parameters: &[(&str, &str)], exports: &HashMap<String, String>) -> Stack<'_> {
        let mut values: HashMap<String, Value> = HashMap::new();
        for (name, parameter) in self.section("Parameters") {
            let given = parameters.iter().find(|(given, _)| *given == name).map(|(_, value)| Value::from(*value));
            let value = given.or_else(|| parameter.get("Default").cloned());
            let value = value.unwrap_or_else(|| panic!("{} needs {name}", self.name));
            // What comes in is text, and a list's parts are separated by commas.
            let text = value.as_str().map_or(value.to_string(), str::to_owned);
            let is_list = parameter["Type"].as_str().is_some_and(|kind| kind.starts_with("List<"));
            let value = if is_list { text.split(',').map(Value::from).collect() } else { Value::from(text) };
            values.insert(name.to_owned(), value);
        }
        for (given, _) in parameters {
            assert!(values.contains_key(*given), "{} has no parameter {given}", self.name);
        }
        Stack { template: self, parameters: values, exports: exports.clone() }
    }
}

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../infra"))
}

/// A template with its parameters.
///
/// What only AWS could know (a resource's id or ARN) is a text in angle brackets: `<Table>`, `<Table.Arn>`.
#[derive(Debug)]
pub struct Stack<'a> {
    template: &'a Template,
    parameters: HashMap<String, Value>,
    exports: HashMap<String, String>,
}

impl Stack<'_> {
    /// The resources whose conditions hold, resolved, each with its `Type`, `Properties` and so on.
    #[must_use]
    pub fn resources(&self) -> Vec<(String, Value)> {
        let all = self.template.section("Resources").filter(|(_, resource)| self.exists(resource));
        all.filter_map(|(name, resource)| Some((name.to_owned(), self.resolve(resource)?))).collect()
    }

    /// A resource, resolved.
    ///
    /// # Panics
    /// If there is none of that name.
    #[must_use]
    pub fn resource(&self, name: &str) -> Value {
        let found = self.resources().into_iter().find(|(found, _)| found == name);
        found.unwrap_or_else(|| panic!("{} has no {name}", self.template.name)).1
    }

    /// What the stack exports.
    #[must_use]
    pub fn exports(&self) -> HashMap<String, String> {
        let outputs = self.template.section("Outputs").filter(|(_, output)| self.exists(output));
        let outputs = outputs.filter_map(|(_, output)| self.resolve(output));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        outputs
            .filter(|output| output.get("Export").is_some())
            .map(|output| (text(&output["Export"]["Name"]), text(&output["Value"])))
            .collect()
    }

    /// Whether the assertions of the template's rules hold, of those that apply.
    #[must_use]
    pub fn obeys_rules(&self) -> bool {
        let applies = |rule: &Value| rule.get("RuleCondition").is_none_or(|condition| self.holds(condition));
        let rules = self.template.section("Rules").filter(|(_, rule)| applies(rule));
        let mut assertions = rules.flat_map(|(_, rule)| rule["Assertions"].as_array().into_iter().flatten());
        assertions.all(|assertion| self.holds(&assertion["Assert"]))
    }

    fn exists(&self, resource: &Value) -> bool {
        resource.get("Condition").is_none_or(|condition| self.condition(condition))
    }

    fn condition(&self, name: &Value) -> bool {
        let conditions = &self.template.value["Conditions"];
        let condition = name.as_str().and_then(|name| conditions.get(name));
        self.holds(condition.unwrap_or_else(|| panic!("there is no condition {name}")))
    }

    fn holds(&self, condition: &Value) -> bool {
        let (function, argument) = single(condition).unwrap_or_else(|| panic!("{condition} is not a condition"));
        let parts = || argument.as_array().expect("a condition has parts");
        match function {
            "Condition" => self.condition(argument),
            "Fn::Equals" => self.text(&parts()[0]) == self.text(&parts()[1]),
            "Fn::Not" => !self.holds(&parts()[0]),
            "Fn::And" => parts().iter().all(|part| self.holds(part)),
            "Fn::Or" => parts().iter().any(|part| self.holds(part)),
            other => panic!("{other} is not a condition"),
        }
    }

    /// `None`: there is nothing in this place (`AWS::NoValue`).
    fn resolve(&self, value: &Value) -> Option<Value> {
        if let Some((function, argument)) = single(value)
            && (function == "Ref" || function.starts_with("Fn::"))
        {
            return self.call(function, argument);
        }
        Some(match value {
            Value::Array(list) => list.iter().filter_map(|value| self.resolve(value)).collect(),
            Value::Object(map) => Value::Object(
                map.iter().filter_map(|(key, value)| Some((key.clone(), self.resolve(value)?))).collect::<Map<_, _>>(),
            ),
            other => other.clone(),
        })
    }

    fn call(&self, function: &str, argument: &Value) -> Option<Value> {
        let part = |place: usize| argument.get(place).unwrap_or_else(|| panic!("{function} has a part {place}"));
        Some(match function {
            "Ref" => return self.reference(argument.as_str().expect("a name")),
            "Fn::If" => return self.resolve(part(if self.condition(part(0)) { 1 } else { 2 })),
            "Fn::GetAtt" => Value::from(format!("<{}.{}>", self.text(part(0)), self.text(part(1)))),
            "Fn::ImportValue" => {
                let name = self.text(argument);
                let value = self.exports.get(&name);
                Value::from(value.unwrap_or_else(|| panic!("nothing exports {name}")).as_str())
            }
            "Fn::Sub" => Value::from(self.substitute(argument)),
            "Fn::FindInMap" => {
                let map = &self.template.value["Mappings"][self.text(part(0))];
                map[self.text(part(1))][self.text(part(2))].clone()
            }
            "Fn::Split" => self.text(part(1)).split(&self.text(part(0))).map(Value::from).collect(),
            "Fn::Select" => {
                let place: usize = self.text(part(0)).parse().expect("a place in the list");
                // A list that only AWS knows is a text here.
                let known = self.resolve(part(1)).and_then(|list| list.get(place).cloned());
                known.unwrap_or_else(|| Value::from(format!("{}[{place}]", self.text(part(1)))))
            }
            other => panic!("{other} is not known here"),
        })
    }

    fn reference(&self, name: &str) -> Option<Value> {
        if let Some(value) = self.parameters.get(name) {
            return Some(value.clone());
        }
        Some(Value::from(match name {
            "AWS::NoValue" => return None,
            "AWS::AccountId" => "111122223333".to_owned(),
            "AWS::Partition" => "aws".to_owned(),
            "AWS::Region" => "us-east-1".to_owned(),
            "AWS::StackName" => self.template.default_stack(),
            _ => {
                let is_resource = self.template.value["Resources"].get(name).is_some();
                assert!(is_resource, "{} has neither a parameter nor a resource {name}", self.template.name);
                format!("<{name}>")
            }
        }))
    }

    /// `${name}` in a text, by the map beside it, a parameter or a resource.
    fn substitute(&self, argument: &Value) -> String {
        let (text, own) = match argument {
            Value::Array(parts) => (parts[0].as_str(), parts.get(1)),
            text => (text.as_str(), None),
        };
        let mut rest = text.expect("a text");
        let mut done = String::new();
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').expect("a name ends");
            done.push_str(before);
            let value = match own.and_then(|own| own.get(name)) {
                Some(value) => self.text(value),
                None if name.contains('.') => format!("<{name}>"),
                None => self.text(&json!({ "Ref": name })),
            };
            done.push_str(&value);
            rest = after;
        }
        done + rest
    }

    fn text(&self, value: &Value) -> String {
        match self.resolve(value) {
            None => String::new(),
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
        }
    }
}

impl Template {
    /// The stack's name in the guide: `streambox-` and the file's name.
    fn default_stack(&self) -> String {
        format!("streambox-{}", self.name.trim_end_matches(".yaml"))
    }
}

/// The only entry of a map.
fn single(value: &Value) -> Option<(&str, &Value)> {
    let map = value.as_object()?;
    let (key, value) = map.iter().next()?;
    (map.len() == 1).then_some((key.as_str(), value))
}
