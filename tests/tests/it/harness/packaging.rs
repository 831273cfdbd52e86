//! What is published: each package has what crates.io and docs.rs show, and every copy of a fact is the same.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Where the manifests say that the repository is; every link in a document goes there.
const REPOSITORY: &str = "https://github.com/streambox-rs/streambox";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace is there")
}

fn read(file: impl AsRef<Path>) -> String {
    let path = root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The packages of the workspace, as Cargo reads their manifests.
fn packages() -> Vec<Value> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(root());
    let output = command.output().expect("Cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata are JSON");
    metadata["packages"].as_array().expect("there are packages").clone()
}

fn published() -> Vec<Value> {
    // null is "anywhere"; a list of no registries is `publish = false`.
    packages().into_iter().filter(|package| package["publish"].is_null()).collect()
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_else(|| panic!("{} has no {field}", package["name"]))
}

fn directory(package: &Value) -> PathBuf {
    Path::new(text(package, "manifest_path")).parent().expect("a manifest is in a directory").to_owned()
}

#[test]
fn every_published_package_has_what_crates_io_and_docs_rs_show() {
    let published = published();
    let names: Vec<_> = published.iter().map(|package| text(package, "name")).collect();
    for package in &published {
        let name = text(package, "name");
        for field in ["repository", "homepage"] {
            assert_eq!(text(package, field), REPOSITORY, "{name}: {field}");
        }
        assert!(!text(package, "description").ends_with('.') && text(package, "documentation").starts_with("https://"));
        for (field, most) in [("keywords", 5), ("categories", 5)] {
            let count = package[field].as_array().map_or(0, Vec::len);
            assert!((1..=most).contains(&count), "{name} has {count} {field}");
        }
        let docs_rs = &package["metadata"]["docs"]["rs"];
        assert_eq!(docs_rs["all-features"], true, "{name}");
        assert_eq!(docs_rs["rustdoc-args"], serde_json::json!(["--cfg", "docsrs"]), "{name}");

        assert_eq!(text(package, "license"), "MIT OR Apache-2.0");
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            let path = directory(package).join(licence);
            assert_eq!(fs::read_to_string(&path).expect("a licence"), read(licence), "{}", path.display());
        }
        assert_eq!(text(package, "readme"), "README.md", "{name}: one of its own");
        let readme = fs::read_to_string(directory(package).join("README.md")).expect("a README");
        assert!(readme.starts_with(&format!("# {name}\n")) && readme.len() < 4_096, "{name}");
        // crates.io shows it outside of the repository.
        let local: Vec<_> = readme.split("](").skip(1).filter(|link| !link.starts_with("https://")).collect();
        assert_eq!(local, [""; 0], "{name}");
    }
    // The scripts that package and publish them, in the order of their dependencies.
    let list = read(".ci/package");
    let list = list.split("readonly PACKAGES=(").nth(1).and_then(|rest| rest.split(')').next()).expect("a list");
    let mut listed: Vec<_> = list.split_whitespace().collect();
    let (mut names, order) = (names.clone(), listed.clone());
    listed.sort_unstable();
    names.sort_unstable();
    assert_eq!(listed, names);
    for package in &published {
        let place = |name: &str| order.iter().position(|listed| *listed == name);
        let own = place(text(package, "name"));
        for needed in package["dependencies"].as_array().expect("a list").iter().filter(|one| one["kind"].is_null()) {
            assert!(place(text(needed, "name")) < own || place(text(needed, "name")).is_none(), "{}", package["name"]);
        }
    }
}

#[test]
fn each_feature_is_described_in_its_crates_documentation_and_in_its_readme() {
    for package in packages() {
        let targets = package["targets"].as_array().expect("a list");
        let is_root = |target: &&Value| target["kind"][0] == "lib" || target["kind"][0] == "bin";
        let root = fs::read_to_string(text(targets.iter().find(is_root).expect("a library or program"), "src_path"));
        let described: Vec<_> = root.expect("it is readable").lines().map(str::to_owned).collect();
        let readme = fs::read_to_string(directory(&package).join("README.md")).unwrap_or_default();
        let is_published = package["publish"].is_null();
        for feature in package["features"].as_object().expect("a map").keys().filter(|name| *name != "default") {
            let (name, line) = (&package["name"], format!("//! - `{feature}`"));
            assert!(described.iter().any(|of| of.starts_with(&line)), "{name}: {feature} is not described");
            let row = format!("| `{feature}` |");
            assert!(!is_published || readme.contains(&row), "{name}: {feature} is not in the README");
        }
    }
}

/// The text behind each place where another one stands in a file, up to the first character that a version does not have.
fn versions_behind(file: &str, before: &str) -> Vec<String> {
    let is_version = |char: &char| char.is_ascii_digit() || *char == '.';
    let all = read(file)
        .split(before)
        .skip(1)
        .map(|rest| rest.chars().take_while(is_version).collect::<String>())
        .collect::<Vec<_>>();
    all.into_iter().map(|version| version.trim_end_matches('.').to_owned()).collect()
}

#[test]
fn the_minimum_rust_version_is_the_same_everywhere() {
    let minimum = versions_behind("Cargo.toml", "rust-version = \"").pop().expect("the workspace has one");
    assert_eq!(versions_behind("tests/peers/Cargo.toml", "rust-version = \""), [minimum.as_str()]);
    for package in published() {
        assert_eq!(text(&package, "rust_version"), minimum, "{}", package["name"]);
        let readme = directory(&package).join("README.md");
        let said = versions_behind(readme.to_str().expect("UTF-8"), "Minimum Rust version: ");
        assert_eq!(said, [minimum.as_str()], "{}", readme.display());
    }
    assert_eq!(versions_behind("CONTRIBUTING.md", "Minimum Rust version: "), [minimum.as_str()]);
    // The images build with a newer one.
    let numbers = |version: &str| version.split('.').map(|part| part.parse::<u32>().unwrap()).collect::<Vec<_>>();
    let built_with = versions_behind("relay/Dockerfile", "RUST_IMAGE=rust:").remove(0);
    assert!(numbers(&built_with) >= numbers(&minimum), "{built_with} builds the image, {minimum} is the minimum");
}

#[test]
fn every_link_to_the_repository_goes_to_the_one_that_the_manifests_name() {
    let cargo = |name: &str| versions_behind("Cargo.toml", &format!("{name} = \"{REPOSITORY}\"\n"));
    assert_eq!([cargo("repository"), cargo("homepage")].map(|found| found.len()), [1, 1]);
    let listed = Command::new("git")
        .args(["ls-files", "-z", "*.md", "*.toml", "*.yml", "*.yaml", "Dockerfile"])
        .current_dir(root())
        .output();
    let listed = String::from_utf8(listed.expect("git runs").stdout).expect("UTF-8");
    let mut checked = 0;
    for file in listed.split_terminator('\0') {
        for rest in read(file).split("https://github.com/").skip(1) {
            let repository: Vec<_> = rest.splitn(3, '/').take(2).collect();
            if let [owner, name] = repository[..]
                && (owner.contains("streambox") || name.starts_with("streambox"))
            {
                checked += 1;
                assert!(format!("https://github.com/{rest}").starts_with(REPOSITORY), "{file}: {owner}/{name}");
            }
        }
    }
    assert!(checked > 5, "{checked} links are not all");
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a directory");
        for entry in fs::read_dir(from).expect("it is readable") {
            let entry = entry.expect("it is readable");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else if from.exists() {
        fs::create_dir_all(to.parent().expect("a file is in a directory")).expect("a directory");
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

#[test]
fn the_image_is_built_from_files_that_are_a_workspace() {
    let context = tempfile::tempdir().expect("a directory");
    let ignored = read(".dockerignore");
    for path in ignored.lines().filter_map(|line| line.strip_prefix('!')) {
        copy(&root().join(path), &context.path().join(path));
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--offline", "--locked"];
    let output = Command::new(cargo).args(arguments).current_dir(context.path()).output().expect("Cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Cargo finds each target by its path: the Dockerfile puts a stub there.
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata are JSON");
    assert_eq!(metadata["packages"].as_array().map(Vec::len), Some(packages().len()));
}

#[test]
fn the_files_that_the_guide_for_contributors_names_are_there() {
    let guide = read("CONTRIBUTING.md");
    let is_path = |text: &&str| {
        text.contains('/') && !text.contains([' ', '*', '=']) && !text.contains("NAME") && !text.contains("-N/")
    };
    let named: Vec<_> = guide.split('`').skip(1).step_by(2).filter(is_path).collect();
    let missing: Vec<_> = named.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(named.len() > 20 && missing.is_empty(), "of {}, these are not there: {missing:?}", named.len());
}
