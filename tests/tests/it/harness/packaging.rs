//! What is published is documented whole: with all features on docs.rs, and each feature in the crate's own words.

use std::{fs, path::Path};

/// A package's manifest and its library's or program's root.
const PACKAGES: [(&str, &str); 6] = [
    ("store", "src/lib.rs"),
    ("store/cli", "src/main.rs"),
    ("relay", "src/lib.rs"),
    ("programs", "src/lib.rs"),
    ("localstack", "src/lib.rs"),
    ("tests", "src/lib.rs"),
];

fn read(package: &str, file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of a section of a manifest.
fn section<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
    let below = manifest.lines().skip_while(|line| *line != name).skip(1);
    below.take_while(|line| !line.starts_with('[')).collect()
}

#[test]
fn docs_rs_shows_every_published_package_with_all_features() {
    for (package, _) in PACKAGES {
        let manifest = read(package, "Cargo.toml");
        let is_published = !section(&manifest, "[package]").contains(&"publish = false");
        let has_all = section(&manifest, "[package.metadata.docs.rs]").contains(&"all-features = true");
        assert_eq!(has_all, is_published, "{package}");
    }
}

#[test]
fn each_feature_is_described_in_its_crates_documentation() {
    for (package, root) in PACKAGES {
        let (manifest, root) = (read(package, "Cargo.toml"), read(package, root));
        let features = section(&manifest, "[features]").into_iter().filter_map(|line| line.split_once(" = "));
        let described: Vec<_> =
            root.lines().filter_map(|line| line.strip_prefix("//! - `")?.split('`').next()).collect();
        for (feature, _) in features.filter(|(name, _)| *name != "default") {
            assert!(described.contains(&feature), "{package}: {feature} is not described");
        }
    }
}
