//! A Terraform module for each template, written from it: the template stays the only definition. `make terraform` writes them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use streambox_tests::cloudformation::Template;

use super::text;

/// Writes the modules anew instead of checking them.
const UPDATE_VARIABLE: &str = "STREAMBOX_UPDATE_TERRAFORM";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/terraform")
}

/// A name as Terraform writes it: `KmsKeyArn` is `kms_key_arn`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for char in name.chars() {
        if char.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(char.to_ascii_lowercase());
    }
    snake
}

/// A text in quotes, in which nothing is a template.
fn quoted(text: &str) -> String {
    format!("{text:?}").replace("${", "$${").replace("%{", "%%{")
}

/// How a parameter's type is written in Terraform, a value of the template in that type, and the variable as a parameter.
struct Kind {
    name: &'static str,
    is_quoted: bool,
    as_parameter: fn(&str) -> String,
}

impl Kind {
    fn of(parameter: &Value) -> Self {
        let as_it_is = |variable: &str| format!("var.{variable}");
        let as_text = |variable: &str| format!("tostring(var.{variable})");
        let values = parameter["AllowedValues"].as_array();
        match text(&parameter["Type"]) {
            list if list.starts_with("List<") => Self {
                name: "list(string)",
                is_quoted: true,
                as_parameter: |variable| format!("join(\",\", var.{variable})"),
            },
            "Number" => Self { name: "number", is_quoted: false, as_parameter: as_text },
            _ if values.is_some_and(|values| values.len() == 2 && values.contains(&"true".into())) => {
                Self { name: "bool", is_quoted: false, as_parameter: as_text }
            }
            _ => Self { name: "string", is_quoted: true, as_parameter: as_it_is },
        }
    }
}

fn variable(name: &str, description: &str, kind: &str, default: Option<&str>) -> String {
    let mut block =
        format!("variable \"{name}\" {{\n  description = {}\n  type        = {kind}\n", quoted(description));
    if let Some(default) = default {
        writeln!(block, "  default     = {default}").expect("a text grows");
    }
    block + "}\n\n"
}

/// `name = value` lines, as `terraform fmt` aligns them.
fn aligned(lines: &[(String, String)], indent: &str) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<_> = lines.iter().map(|(name, value)| format!("{indent}{name:width$} = {value}\n")).collect();
    lines.concat()
}

/// A section in the order of the file.
fn in_order<'a>(template: &'a Template, section: &str) -> Vec<(&'a str, &'a Value)> {
    let (_, text) = template.text.split_once(&format!("\n{section}:\n")).expect("it has the section");
    let mut entries: Vec<_> = template.section(section).collect();
    entries.sort_by_key(|(name, _)| text.find(&format!("  {name}:\n")));
    entries
}

fn module(template: &Template) -> String {
    let name = template.name.trim_end_matches(".yaml");
    let description = text(&template.value()["Description"]);
    let mut module = format!(
        "# The stack of {}, which is the definition: this file is written from it by `make terraform`.\n# {description}\n\n",
        template.name
    );
    module += "terraform {\n  required_version = \">= 1.3\"\n  required_providers {\n    aws = {\n      source  = \"hashicorp/aws\"\n      version = \">= 5.0\"\n    }\n  }\n}\n\n";
    module += &variable("stack_name", "Name of the stack.", "string", Some(&quoted(&format!("streambox-{name}"))));
    module += &variable(
        "tags",
        "Tags of the stack and of what it creates.",
        "map(string)",
        Some("{ application = \"streambox\" }"),
    );
    let mut parameters = Vec::new();
    for (parameter, value) in in_order(template, "Parameters") {
        let kind = Kind::of(value);
        let default = value.get("Default").map(|default| match default {
            Value::String(default) if kind.is_quoted => quoted(default),
            Value::String(default) => default.clone(),
            other if kind.is_quoted => quoted(&other.to_string()),
            other => other.to_string(),
        });
        let variable_name = snake(parameter);
        module += &variable(&variable_name, text(&value["Description"]), kind.name, default.as_deref());
        parameters.push((parameter.to_owned(), (kind.as_parameter)(&variable_name)));
    }
    let mut arguments = vec![
        ("name".to_owned(), "var.stack_name".to_owned()),
        ("template_body".to_owned(), format!("file(\"${{path.module}}/../../{}\")", template.name)),
    ];
    if template.text.contains("AWS::IAM::") {
        arguments.push(("capabilities".to_owned(), "[\"CAPABILITY_IAM\"]".to_owned()));
    }
    arguments.push(("tags".to_owned(), "var.tags".to_owned()));
    module += "resource \"aws_cloudformation_stack\" \"this\" {\n";
    module += &aligned(&arguments, "  ");
    module.extend(["\n  parameters = {\n", &aligned(&parameters, "    "), "  }\n}\n\n"]);
    module += "output \"stack_name\" {\n  description = \"Name of the stack, for the modules that use it.\"\n  value       = aws_cloudformation_stack.this.name\n}\n";
    for (output, value) in in_order(template, "Outputs") {
        // An output on a condition may not be there.
        let found = match value.get("Condition") {
            None => format!("aws_cloudformation_stack.this.outputs[\"{output}\"]"),
            Some(_) => format!("lookup(aws_cloudformation_stack.this.outputs, \"{output}\", \"\")"),
        };
        module.extend([format!(
            "\noutput \"{}\" {{\n  description = {}\n  value       = {found}\n}}\n",
            snake(output),
            quoted(text(&value["Description"]))
        )]);
    }
    module
}

#[test]
fn each_module_has_the_parameters_and_outputs_of_its_template() {
    for template in Template::all() {
        let file = directory().join(template.name.trim_end_matches(".yaml")).join("main.tf");
        let module = module(&template);
        if std::env::var_os(UPDATE_VARIABLE).is_some() {
            fs::create_dir_all(file.parent().expect("a directory")).expect("a directory can be made");
            fs::write(&file, &module).expect("a module can be written");
        }
        let there = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(there, module, "{} is not up to date: make terraform", file.display());
    }
}

/// The names of a module's blocks of a kind (`variable`, `output`).
fn names(module: &str, kind: &str) -> BTreeSet<String> {
    let start = format!("{kind} \"");
    module.lines().filter_map(|line| Some(line.strip_prefix(&start)?.split('"').next()?.to_owned())).collect()
}

/// A block of the first level without its first line.
fn body<'a>(file: &'a str, first_line: &str) -> &'a str {
    let (_, rest) = file.split_once(&format!("{first_line}\n")).unwrap_or_else(|| panic!("there is no {first_line}"));
    rest.split("\n}").next().expect("a block")
}

/// That the files are Terraform's language, its own parser says in `infra/lint`.
#[test]
fn the_example_gives_each_module_what_it_needs_and_uses_outputs_that_there_are() {
    let file = directory().join("example/main.tf");
    let example = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut outputs = BTreeMap::new();
    for call in names(&example, "module") {
        let given = body(&example, &format!("module \"{call}\" {{"));
        let given = given.lines().filter_map(|line| line.split_once('='));
        let given: BTreeMap<_, _> = given.map(|(name, value)| (name.trim(), value.trim())).collect();
        let source = given["source"].trim_matches('"');
        let module = fs::read_to_string(directory().join("example").join(source).join("main.tf"));
        let module = module.unwrap_or_else(|error| panic!("{source}: {error}"));
        let variables = names(&module, "variable");
        let unknown: Vec<_> = given.keys().filter(|name| **name != "source" && !variables.contains(**name)).collect();
        assert!(unknown.is_empty(), "{call}: {unknown:?}");
        let is_needed = |name: &&String| !body(&module, &format!("variable \"{name}\" {{")).contains("\n  default ");
        let missing: Vec<_> =
            variables.iter().filter(is_needed).filter(|name| !given.contains_key(name.as_str())).collect();
        assert!(missing.is_empty(), "{call}: {missing:?}");
        outputs.insert(call, names(&module, "output"));
    }
    let files: BTreeSet<_> = Template::all().iter().map(|one| one.name.trim_end_matches(".yaml").to_owned()).collect();
    assert_eq!(outputs.keys().cloned().collect::<BTreeSet<_>>(), files, "the example has every module");
    // Comments and commands aside.
    for used in example.lines().filter(|line| !line.starts_with('#')).flat_map(|line| line.split("module.").skip(1)) {
        let mut words = used.split(|char: char| !char.is_ascii_lowercase() && char != '_');
        let (module, output) = (words.next().expect("a module"), words.next().expect("an output"));
        assert!(outputs[module].contains(output), "module.{module}.{output}");
    }
}
