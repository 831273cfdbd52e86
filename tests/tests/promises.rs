//! Each promise has tests, by the numbers in their names; `tests/PROMISES.md` lists them.
//!
//! A target of its own, so that the list is written without building the other tests.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Writes the list anew instead of checking it.
const UPDATE_VARIABLE: &str = "STREAMBOX_UPDATE_PROMISES";

const INTRODUCTION: &str = "\
# Promises and their tests

G1 to G12 and C1 to C4 are the [guarantees](../docs/guarantees.md), U1 to U6 those [between versions](../UPGRADES.md#what-is-promised). A test bears the
numbers of the promises that it holds the code to. Generated from the names of the tests by `make promises`; a test fails if this list
is not up to date, or a promise has no test.
";

/// A promise: its number and its title.
type Promise = (String, String);

/// A test: its file, from the repository's root, and its name.
type Test = (String, String);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The rows `| G1 | **Title.** … |` of a document.
fn promises(document: &str) -> Vec<Promise> {
    let promise = |row: &str| {
        let (number, rest) = row.strip_prefix("| ")?.split_once(" | **")?;
        let is_number = number.starts_with(['G', 'C', 'U']) && number[1..].parse::<u32>().is_ok();
        is_number.then(|| (number.to_owned(), rest.split(".**").next().unwrap_or_default().to_owned()))
    };
    document.lines().filter_map(promise).collect()
}

/// The promises that a test's name begins with: `g5_g7_a_stream…`.
fn numbers(name: &str) -> Vec<String> {
    let is_number = |part: &&str| {
        part.starts_with(['g', 'c', 'u']) && part.len() > 1 && part[1..].chars().all(|c| c.is_ascii_digit())
    };
    name.split('_').take_while(is_number).map(str::to_uppercase).collect()
}

/// The names of the functions of a source that are marked as tests.
fn tests<'a>(source: &'a str) -> Vec<&'a str> {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let is_test = |index: usize| {
        let mut above = lines[..index].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        above.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    };
    let name = |(index, line): (usize, &&'a str)| {
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?.split(['(', '<']).next()?;
        is_test(index).then_some(name)
    };
    lines.iter().enumerate().filter_map(name).collect()
}

/// The sources in a directory and below, in order.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory can be read");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    paths.sort();
    let below = |path: PathBuf| match path.is_dir() {
        true if path.ends_with("target") => vec![],
        true => sources(&path),
        false if path.extension().is_some_and(|extension| extension == "rs") => vec![path],
        false => vec![],
    };
    paths.into_iter().flat_map(below).collect()
}

/// Every test of the workspace.
fn all_tests() -> Vec<Test> {
    let root = root();
    let mut all = vec![];
    for path in ["amqp", "consumer", "examples", "localstack", "programs", "relay", "store", "tests"]
        .iter()
        .flat_map(|package| sources(&root.join(package)))
    {
        let source = fs::read_to_string(&path).expect("a source can be read");
        let file = path.strip_prefix(&root).expect("it is below the root").display().to_string();
        all.extend(tests(&source).into_iter().map(|name| (file.clone(), name.to_owned())));
    }
    all
}

/// The list, or what is wrong with the names.
fn list(promises: &[Promise], tests: &[Test]) -> Result<String, String> {
    let mut by_number: BTreeMap<String, Vec<&Test>> = BTreeMap::new();
    for test in tests {
        for number in numbers(&test.1) {
            if !promises.iter().any(|(known, _)| *known == number) {
                return Err(format!("{} bears the number {number}, which is not a promise", test.1));
            }
            by_number.entry(number).or_default().push(test);
        }
    }
    let mut text = INTRODUCTION.to_owned();
    for (number, title) in promises {
        let tests = by_number.get(number).ok_or(format!("the promise {number} ({title}) has no test"))?;
        write!(text, "\n## {number}: {title}\n\n").expect("a text takes it");
        let mut last = "";
        for (file, name) in tests {
            if file != last {
                let shown = file.strip_prefix("tests/tests/it/").unwrap_or(file).trim_end_matches(".rs");
                writeln!(text, "- [{shown}](../{file})").expect("a text takes it");
                last = file;
            }
            writeln!(text, "  - `{name}`").expect("a text takes it");
        }
    }
    Ok(text)
}

#[test]
fn every_promise_has_tests_and_the_list_of_them_is_up_to_date() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect("a document can be read");
    let guarantees = promises(&read("docs/guarantees.md"));
    // Those of the consumer are one line there.
    let of_the_relay: Vec<_> = guarantees.iter().filter(|(number, _)| number.starts_with('G')).cloned().collect();
    assert_eq!(promises(&read("README.md")), of_the_relay, "the README has their titles");
    let promises = [guarantees, promises(&read("UPGRADES.md"))].concat();
    let list = list(&promises, &all_tests()).unwrap();
    if std::env::var_os(UPDATE_VARIABLE).is_some() {
        fs::write(root().join("tests/PROMISES.md"), list).expect("the list can be written");
    } else {
        assert!(list == read("tests/PROMISES.md"), "tests/PROMISES.md is not up to date: run `make promises`");
    }
}

#[test]
fn a_promise_without_a_test_and_a_number_without_a_promise_are_found() {
    let rows = "| G1 | **One.** More. |\n| | promise |\n| U2 | **Two.** |\n| GB | **None.** |";
    let promises = promises(rows);
    assert_eq!(promises, [("G1", "One"), ("U2", "Two")].map(|(number, title)| (number.to_owned(), title.to_owned())));

    let source =
        "fn g1_helper() {}\n#[tokio::test]\n// Why.\nasync fn g1_u2_it_works() {}\n#[test]\nfn g_is_not_one() {}";
    assert_eq!(tests(source), ["g1_u2_it_works", "g_is_not_one"]);

    let tests = |names: &[&str]| names.iter().map(|name| ("a.rs".to_owned(), (*name).to_owned())).collect::<Vec<_>>();
    let list = |names| list(&promises, &tests(names));
    assert!(list(&["g1_u2_it_works"]).unwrap().ends_with("## U2: Two\n\n- [a](../a.rs)\n  - `g1_u2_it_works`\n"));
    assert_eq!(list(&["g1_it_works"]), Err("the promise U2 (Two) has no test".to_owned()));
    assert_eq!(list(&["g1_u2_a", "g3_b"]), Err("g3_b bears the number G3, which is not a promise".to_owned()));
}
