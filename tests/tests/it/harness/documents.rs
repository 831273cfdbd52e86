//! The documents are true: links lead somewhere, code compiles, commands and flags exist, every alarm and halt reason has its advice, and one
//! thing has one name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use streambox_tests::programs::program;

/// The README is a page, not a manual.
const MAX_README_BYTES: usize = 10_000;

const PUBLIC_API: &str = include_str!("../../../../store/public-api.txt");
const API_DOCUMENTATION: &str = "https://docs.rs/streambox/latest/streambox/";

/// What has Rust documentation that documents are included in.
const INCLUDING: [&str; 2] = ["store/src/lib.rs", "tests/src/documents.rs"];

/// Languages of blocks of code.
const LANGUAGES: [&str; 8] = ["console", "json", "mermaid", "rust", "rust,no_run", "sh", "text", "toml"];

/// Other words for what has a name, and phrases that read as if they were translated.
const FORBIDDEN: [&str; 17] = [
    "append-id",
    "back-off",
    "dedup window",
    "event log table",
    "gone on with",
    "makes sure of",
    "mended",
    "outbox row",
    "outbox table",
    "outbox worker",
    "repeat window",
    "so many",
    "stuck stream",
    "taken back",
    "to mend",
    "unpublished entry",
    "whoever watches",
];

struct Document {
    /// From the repository's root.
    path: String,
    text: String,
}

/// A part of a document: a line of prose, or a whole block of code.
enum Part<'a> {
    Line(&'a str),
    Code { language: &'a str, text: String },
}

impl Document {
    fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let (mut parts, mut lines) = (vec![], self.text.lines());
        while let Some(line) = lines.next() {
            // A block in a list is indented.
            let Some(language) = line.trim_start().strip_prefix("```") else {
                parts.push(Part::Line(line));
                continue;
            };
            let code: Vec<_> = lines.by_ref().take_while(|line| !line.trim_start().starts_with("```")).collect();
            parts.push(Part::Code { language, text: code.join("\n") });
        }
        parts
    }

    fn prose(&self) -> impl Iterator<Item = &str> {
        self.parts().into_iter().filter_map(|part| match part {
            Part::Line(line) => Some(line),
            Part::Code { .. } => None,
        })
    }

    fn code(&self, languages: &[&str]) -> impl Iterator<Item = String> {
        self.parts().into_iter().filter_map(|part| match part {
            Part::Code { language, text } if languages.contains(&language) => Some(text),
            _ => None,
        })
    }

    /// The lines of shell, and those that are typed on a terminal.
    fn commands(&self) -> impl Iterator<Item = String> {
        let lines = |block: String| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>();
        let typed =
            self.code(&["console"]).flat_map(lines).filter_map(|line| Some(line.strip_prefix("$ ")?.to_owned()));
        self.code(&["sh"]).flat_map(lines).chain(typed)
    }

    /// What stands between backticks in the prose, a line break as a space.
    fn inline_code(&self) -> Vec<String> {
        let prose: Vec<_> = self.prose().collect();
        let paragraphs = prose.split(|line| line.is_empty() || line.starts_with('|')).map(|lines| lines.join(" "));
        let rows = prose.iter().filter(|line| line.starts_with('|')).map(|line| (*line).to_owned());
        let spans = |text: String| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        paragraphs.chain(rows).flat_map(spans).collect()
    }

    /// The ends of its links, whether they stand in the text, in a definition, or in an image.
    fn links(&self) -> Vec<&str> {
        let mut links = vec![];
        for line in self.prose() {
            let inline = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let defined = line.starts_with('[').then(|| line.split_once("]: http")).flatten();
            links.extend(inline.filter(|link| !link.contains(' ')));
            links.extend(defined.map(|(name, _)| &line[name.len() + 3..]));
            let images = ["src=\"", "srcset=\""].into_iter().flat_map(|name| line.split(name).skip(1));
            links.extend(images.filter_map(|rest| rest.split('"').next()));
        }
        links
    }

    /// What a link can name behind `#`: its headings, as forges write them.
    fn anchors(&self) -> BTreeSet<String> {
        let mut seen = BTreeMap::new();
        let headings =
            self.prose().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
        let anchors = headings.map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            let anchor = kept.collect::<String>().to_lowercase().replace(' ', "-");
            let times = seen.entry(anchor.clone()).and_modify(|times| *times += 1).or_insert(0);
            if *times == 0 { anchor } else { format!("{anchor}-{times}") }
        });
        anchors.collect()
    }

    /// The section below a heading, to the next heading of its kind or a higher one.
    fn section(&self, heading: &str) -> Option<&str> {
        let (_, below) = self.text.split_once(&format!("\n{heading}\n"))?;
        let level = heading.chars().take_while(|c| *c == '#').count();
        let ends = (1..=level).filter_map(|level| below.find(&format!("\n{} ", "#".repeat(level))));
        Some(&below[..ends.min().unwrap_or(below.len())])
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository is there")
}

/// Where the repository is, as the manifest says it.
fn repository() -> String {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest can be read");
    let value = |line: &str| Some(line.strip_prefix("repository = \"")?.trim_end_matches('"').to_owned());
    manifest.lines().find_map(value).expect("the manifest names the repository")
}

/// The files of these kinds in a directory and below, without links and what is hidden or built.
fn files(directory: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(directory).expect("a directory can be read") {
        let entry = entry.expect("an entry can be read");
        let (path, name) = (entry.path(), entry.file_name());
        let (kind, name) = (entry.file_type().expect("it has a type"), name.to_string_lossy());
        let is_kind = || extensions.iter().any(|extension| path.extension().is_some_and(|found| found == *extension));
        if kind.is_dir() && !name.starts_with('.') && !["node_modules", "target"].contains(&&*name) {
            found.extend(files(&path, extensions));
        } else if kind.is_file() && is_kind() {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn documents() -> Vec<Document> {
    let root = root();
    let paths = files(&root, &["md"]).into_iter();
    paths.map(|path| Document::read(&path.strip_prefix(&root).expect("below the root").to_string_lossy())).collect()
}

/// The README and the pages that it leads to.
fn pages() -> impl Iterator<Item = Document> {
    let is_page = |path: &str| path.starts_with("docs/") || ["README.md", "UPGRADES.md"].contains(&path);
    documents().into_iter().filter(move |document| is_page(&document.path))
}

#[test]
fn every_link_within_the_repository_leads_to_a_file_and_a_heading() {
    let (root, repository) = (root(), repository());
    let documents: BTreeMap<_, _> = documents().into_iter().map(|one| (one.path.clone(), one)).collect();
    let (mut broken, mut count) = (vec![], 0);
    for document in documents.values() {
        for link in document.links() {
            let within =
                ["blob", "tree"].iter().find_map(|kind| link.strip_prefix(&format!("{repository}/{kind}/main/")));
            let (base, link) = match within {
                Some(link) => (Path::new(""), link),
                None if link.contains("://") => continue,
                None => (Path::new(&document.path).parent().expect("a file is in a directory"), link),
            };
            let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let path = if path.is_empty() { root.join(&document.path) } else { root.join(base).join(path) };
            let found = path.canonicalize().ok().filter(|path| path.starts_with(&root));
            let has_anchor = |path: &Path| {
                let path = path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
                anchor.is_none_or(|anchor| documents.get(&path).is_some_and(|found| found.anchors().contains(anchor)))
            };
            if !found.is_some_and(|path| has_anchor(&path)) {
                broken.push(format!("{}: {link}", document.path));
            }
            count += 1;
        }
    }
    assert_eq!(broken, [""; 0]);
    assert!(count > 200, "{count}");
}

/// `streambox::aggregate::Repository::execute` and so on: the names in the list of the public interface.
fn public_items() -> BTreeSet<String> {
    let item = |line: &str| {
        let (mut depth, mut name) = (0, String::new());
        for c in line[line.find("streambox::")?..].chars() {
            match c {
                '<' => depth += 1,
                '>' => depth -= 1,
                '(' | ' ' | ';' if depth == 0 => break,
                _ if depth == 0 => name.push(c),
                _ => {}
            }
        }
        Some(name.trim_end_matches(':').to_owned())
    };
    PUBLIC_API.lines().filter_map(item).collect()
}

#[test]
fn links_to_the_librarys_documentation_name_public_items() {
    let (items, mut count) = (public_items(), 0);
    for document in documents() {
        for link in document.links().into_iter().filter_map(|link| link.strip_prefix(API_DOCUMENTATION)) {
            let (page, member) = link.split_once('#').map_or((link, None), |(page, member)| (page, Some(member)));
            let (modules, page) = page.rsplit_once('/').unwrap_or(("", page));
            let modules = modules.split('/').filter(|module| !module.is_empty());
            // `struct.EventStore.html`, or the `index.html` of a module
            let item = page.strip_suffix(".html").and_then(|page| page.split_once('.')).map(|(_, name)| name);
            let member = member.and_then(|member| member.split_once('.')).map(|(_, name)| name);
            let name: Vec<_> = ["streambox"].into_iter().chain(modules).chain(item).chain(member).collect();
            assert!(items.contains(&name.join("::")), "{}: {link}", document.path);
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}

#[test]
fn every_name_in_brackets_has_its_link_where_a_document_defines_links() {
    for document in documents() {
        let lines: Vec<_> = document.prose().collect();
        let (definitions, prose): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line.starts_with('[') && line.contains("]: http"));
        let name = |line: &str| line[1..].split("]: ").next().expect("a name").to_lowercase();
        let defined: BTreeSet<_> = definitions.into_iter().map(name).collect();
        let prose = prose.join(" ");
        for (name, rest) in prose.split('[').skip(1).filter_map(|text| text.split_once(']')) {
            // Not an index in code, and not a link that has its end with it.
            let is_reference = !rest.starts_with('(') && !name.contains(['(', '"']);
            assert!(
                defined.is_empty() || !is_reference || defined.contains(&name.to_lowercase()),
                "{}: [{name}]",
                document.path
            );
        }
        for name in &defined {
            assert!(
                prose.to_lowercase().contains(&format!("[{name}]")),
                "{}: nothing links to [{name}]",
                document.path
            );
        }
    }
}

#[test]
fn every_block_of_code_has_a_language_and_rust_is_compiled_and_json_is_json() {
    let root = root();
    let mut included = BTreeSet::new();
    for source in INCLUDING {
        let directory = root.join(source).parent().expect("a file is in a directory").to_owned();
        let text = fs::read_to_string(root.join(source)).expect("a source can be read");
        let files = text.split("include_str!(\"").skip(1).filter_map(|rest| rest.split('"').next());
        included.extend(files.map(|file| directory.join(file).canonicalize().expect(file)));
    }
    for document in documents() {
        for part in document.parts() {
            let Part::Code { language, text } = part else { continue };
            assert!(LANGUAGES.contains(&language), "{}: a block of {language:?}:\n{text}", document.path);
            if language == "json" {
                serde_json::from_str::<serde_json::Value>(&text)
                    .unwrap_or_else(|_| panic!("{}: {text}", document.path));
            }
        }
        let has_rust = document.code(&["rust", "rust,no_run"]).next().is_some();
        let is_compiled = included.contains(&root.join(&document.path)) || is_readme_of_a_crate(&document.path);
        assert!(!has_rust || is_compiled, "{}: include it in tests/src/documents.rs", document.path);
    }
}

/// Those of published crates are compiled with the crates, which include them by themselves.
fn is_readme_of_a_crate(path: &str) -> bool {
    let directory = root().join(path).parent().expect("a file is in a directory").to_owned();
    let source = fs::read_to_string(directory.join("src/lib.rs")).unwrap_or_default();
    path != "README.md" && source.contains("include_str!(\"../README.md\")")
}

/// The calls of our programs in a document: program, arguments.
fn calls(document: &Document) -> Vec<(&'static str, Vec<String>)> {
    let commands = document.commands().flat_map(|line| {
        let line = line.split(" #").next().unwrap_or_default();
        line.split(['|', ';', '&']).map(|part| part.trim().to_owned()).collect::<Vec<_>>()
    });
    let call = |text: String| {
        let mut words = text.split_whitespace().map(|word| word.trim_matches(['[', ']', '\'', '"', ',']).to_owned());
        let name = words.next()?;
        let name = ["streambox", "streambox-relay"].into_iter().find(|program| *program == name)?;
        Some((name, words.filter(|word| !word.is_empty()).collect::<Vec<_>>()))
    };
    commands.chain(document.inline_code()).filter_map(call).filter(|(_, words)| !words.is_empty()).collect()
}

/// What `--help` of a command prints; none if there is no such command.
fn help(name: &str, command: &[String]) -> Option<String> {
    let output = Command::new(program(name)).args(command).arg("--help").env_clear().output().expect("it runs");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn has_flag(help: &str, flag: &str) -> bool {
    let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.into_iter().any(|word| word == flag)
}

#[test]
fn every_command_and_flag_in_the_documents_exists() {
    let mut helps: BTreeMap<(&str, Vec<String>), String> = BTreeMap::new();
    let mut count = 0;
    for document in documents().into_iter().filter(|document| document.path != "CHANGELOG.md") {
        for (name, words) in calls(&document) {
            let mut rest =
                words.iter().skip_while(|word| word.starts_with('-') || word.chars().all(char::is_uppercase));
            let mut command: Vec<_> = rest.next().into_iter().cloned().collect();
            if command == ["table"] {
                command.extend(rest.next().cloned());
            }
            let place = format!("{}: {name} {}", document.path, words.join(" "));
            let key = (name, command.clone());
            if !helps.contains_key(&key) {
                let text = help(name, &command).unwrap_or_else(|| panic!("{place}: there is no such command"));
                helps.insert(key.clone(), text);
            }
            for flag in words.iter().filter_map(|word| word.split('=').next()).filter(|word| word.starts_with("--")) {
                assert!(flag == "--help" || has_flag(&helps[&key], flag), "{place}: {flag}");
            }
            count += 1;
        }
    }
    assert!(count > 60, "{count}");

    // Flags alone, in the text: of any command, or of a program that is not ours.
    let theirs = ["--git", "--sbom", "--network"];
    let commands: [(&str, &[&str]); 15] = [
        ("streambox", &["table", "create"]),
        ("streambox", &["table", "check"]),
        ("streambox", &["import"]),
        ("streambox", &["append"]),
        ("streambox", &["read"]),
        ("streambox", &["streams"]),
        ("streambox", &["export"]),
        ("streambox", &["verify"]),
        ("streambox-relay", &["run"]),
        ("streambox-relay", &["drain"]),
        ("streambox-relay", &["status"]),
        ("streambox-relay", &["skip"]),
        ("streambox-relay", &["replay"]),
        ("streambox-relay", &["health"]),
        ("streambox", &[]),
    ];
    let all = commands.map(|(name, command)| help(name, &command.iter().map(ToString::to_string).collect::<Vec<_>>()));
    let all = all.map(|text| text.expect("the command exists")).join("\n");
    for page in pages() {
        let flags = page.inline_code().into_iter().filter(|code| code.starts_with("--"));
        for flag in flags.map(|code| code.split([' ', '=']).next().expect("a word").to_owned()) {
            let is_ours = has_flag(&all, &flag) || flag == "--rebuild";
            assert!(is_ours || theirs.contains(&flag.as_str()), "{}: {flag}", page.path);
        }
    }
}

#[test]
fn every_make_target_in_the_documents_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("it can be read");
    for document in documents().into_iter().filter(|document| document.path != "CHANGELOG.md") {
        for line in document.commands().chain(document.inline_code()) {
            let Some(target) = line.strip_prefix("make ") else { continue };
            let target = target.split_whitespace().next().unwrap_or_default();
            assert!(makefile.contains(&format!("\n{target}:")), "{}: make {target}", document.path);
        }
    }
}

#[test]
fn the_readme_is_short_and_says_what_the_manifest_and_the_demo_say() {
    let (root, readme) = (root(), Document::read("README.md"));
    assert!(readme.text.len() <= MAX_README_BYTES, "{} bytes", readme.text.len());

    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("it can be read");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("the minimum Rust");
    let version = version.trim_matches('"');
    assert!(readme.text.contains(&format!("[![Rust {version}](https://img.shields.io/badge/rust-{version}%2B-")));

    let demo = files(&root.join("tests/src/bin/streambox-demo"), &["rs"]);
    let demo: String = demo.iter().map(|path| fs::read_to_string(path).expect("it can be read")).collect();
    let shown: String = readme.code(&["console"]).next().expect("what the demo prints");
    for line in shown.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('$')) {
        // A name and a number, or a sentence.
        let text = line.split("  ").next().expect("a text").split(": ").next().expect("a text");
        assert!(demo.contains(text), "the demo does not print {text:?}");
    }
}

#[test]
fn every_page_is_in_the_index() {
    let index = Document::read("docs/README.md");
    for page in documents().iter().filter_map(|document| document.path.strip_prefix("docs/")) {
        assert!(page == "README.md" || index.links().contains(&page), "docs/README.md does not link to {page}");
    }
}

#[test]
fn one_thing_has_one_name() {
    for page in pages() {
        let text = page.text.to_lowercase().replace('\n', " ");
        for word in FORBIDDEN {
            assert!(!text.contains(word), "{}: {word:?}", page.path);
        }
    }
}

/// All sources of the packages that users get.
fn sources() -> String {
    let read = |path: PathBuf| fs::read_to_string(path).expect("a source can be read");
    ["store", "relay", "consumer", "amqp", "programs"]
        .iter()
        .flat_map(|package| files(&root().join(package), &["rs"]))
        .map(read)
        .collect()
}

#[test]
fn the_words_of_the_glossary_are_those_of_the_code() {
    let (glossary, sources) = (Document::read("docs/glossary.md"), sources());
    let rows: Vec<_> = glossary.prose().filter(|line| line.starts_with("| **")).collect();
    assert!(rows.len() > 30);
    for row in rows {
        let names = row.rsplit(" | ").next().expect("a column").split('`').skip(1).step_by(2);
        for name in names {
            // `Aggregate::CATEGORY`, `--poll-interval`, `streambox-relay replay`
            let name = name.rsplit([':', ' ']).next().expect("a word").trim_start_matches("--");
            let is_there = sources.contains(name) || sources.contains(&name.replace('-', "_"));
            assert!(is_there, "{name} is not in the code: {row}");
        }
    }
}

#[test]
fn every_alarm_has_its_advice() {
    let operating = Document::read("docs/operating.md");
    let mut count = 0;
    for template in files(&root().join("infra"), &["yaml"]) {
        let text = fs::read_to_string(&template).expect("a template can be read");
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        let of_cloudwatch = lines.windows(2).filter(|pair| pair[1] == "Type: AWS::CloudWatch::Alarm");
        let of_cloudwatch = of_cloudwatch.map(|pair| pair[0].trim_end_matches(':'));
        for alarm in of_cloudwatch.chain(lines.iter().filter_map(|line| line.strip_prefix("- alert: "))) {
            let advice = operating.section(&format!("### {alarm}")).unwrap_or_else(|| panic!("{alarm} is missing"));
            for part in ["- **Means**", "- **Look at**", "- **Do**", "- **Don't**"] {
                assert!(advice.contains(part), "{alarm} lacks {part}");
            }
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn every_reason_in_the_advice_is_one_that_the_programs_give() {
    let operating = Document::read("docs/operating.md");
    // A text that goes on in the next line is one text.
    let sources = sources().split("\\\n").map(str::trim_start).collect::<String>().replace("\\\"", "\"");
    let halts = operating.section("## Halted streams").expect("the section");
    let unready = operating.section("### BrokerIsNotReady").expect("the section");
    let rows = halts.lines().chain(unready.lines()).filter(|line| line.starts_with("| `"));
    let mut count = 0;
    for row in rows {
        let reasons = row.split(" | ").next().expect("a column").split('`').skip(1).step_by(2);
        for part in reasons
            .flat_map(|reason| reason.split('…'))
            .map(|part| part.trim_matches([' ', ',']))
            .filter(|part| part.len() > 3)
        {
            assert!(sources.contains(part), "no program says {part:?}");
        }
        count += 1;
    }
    assert!(count > 15, "{count}");
}

/// What can halt a stream, by where it is said: each has a row.
#[test]
fn every_halt_reason_has_its_advice() {
    let operating = Document::read("docs/operating.md");
    let halts = operating.section("## Halted streams").expect("the section");
    for (file, marker) in [
        ("relay/src/broker/session.rs", "Outcome::Refused("),
        ("relay/src/broker/alone.rs", "Outcome::Poison(format!("),
        ("relay/src/core/lanes/publishing.rs", "let reason = format!("),
    ] {
        let source = fs::read_to_string(root().join(file)).expect("a source can be read");
        let source = source.split("#[cfg(test)]").next().expect("the code before its tests").to_owned();
        for said in source.split(marker).skip(1).filter_map(|rest| rest.split('"').nth(1)) {
            let literal = said.split('{').next().expect("a text").trim_end_matches(['\\', '\n', ' ', '(']);
            let literal = literal.split('\\').next().expect("a text").trim();
            // Only a replay to a queue says it.
            let is_of_a_replay = literal.starts_with("there is no queue");
            assert!(is_of_a_replay || halts.contains(literal), "{file} says {literal:?}");
        }
    }
}
