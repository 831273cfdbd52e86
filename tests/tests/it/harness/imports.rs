//! No two files import each other in a circle, and no two rooms, the files and folders right under `src`: so each can be read and
//! changed without what stands above it.
//!
//! An import leads to the file that defines the name, through the re-exports in between. What a folder's `mod.rs` takes from the
//! folder's own files does not count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use syn::{Attribute, Item, UseTree, Visibility, visit::Visit};

/// A module, from the crate's root: `["append", "check"]`.
type ModulePath = Vec<String>;

type Modules = BTreeMap<ModulePath, Module>;

#[derive(Default)]
struct Module {
    path: ModulePath,
    children: Vec<String>,
    /// Names in scope, and where they come from.
    imported: BTreeMap<String, ModulePath>,
    /// What the code names.
    named: BTreeSet<ModulePath>,
}

/// Between rooms these run upward: the table's format is read into plain data that stand in the folders of their operations, and a projection
/// names the inbox that its streams are parked in, which is one itself.
const UPWARD: [(&str, &str, &str); 3] =
    [("store/src", "schema", "outbox"), ("store/src", "schema", "snapshot"), ("consumer/src", "projection", "inbox")];

#[test]
fn nothing_is_imported_in_a_circle() {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for src in [
        "store/src",
        "store/cli/src",
        "relay/src",
        "consumer/src",
        "consumer/cli/src",
        "amqp/src",
        "programs/src",
        "localstack/src",
        "tests/src",
    ] {
        let modules = modules(&packages.join(src));
        let files = arrows(&modules, usize::MAX);
        let circle = in_circles(&files);
        assert!(circle.is_empty(), "{src}: files that import each other:\n{}", circle.join("\n"));

        let mut rooms = arrows(&modules, 1);
        for (_, from, to) in UPWARD.into_iter().filter(|(of, ..)| *of == src) {
            assert!(
                rooms.remove(&(vec![from.to_owned()], vec![to.to_owned()])),
                "{src}: {from} does not import {to} any more"
            );
        }
        let circle = in_circles(&rooms);
        assert!(circle.is_empty(), "{src}: rooms that import each other:\n{}", circle.join("\n"));
    }
}

#[test]
fn a_circle_is_seen_through_a_folders_face() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("lib.rs", "mod low; mod high; #[cfg(test)] mod tests { use crate::low::A; }");
    write("low.rs", "pub struct A; impl A { fn up(self) -> u8 { crate::high::MOST } }");
    write("high/mod.rs", "mod inner; pub use inner::MOST; use inner::Other;");
    write("high/inner.rs", "use crate::low::{A as B}; pub const MOST: u8 = 1; pub struct Other(B);");

    let modules = modules(folder.path());
    let arrows = arrows(&modules, usize::MAX);
    assert_eq!(in_circles(&arrows), ["high::inner -> low", "low -> high::inner"]);
}

/// Arrows between modules, or between what is left of their paths when `depth` parts are kept.
fn arrows(modules: &Modules, depth: usize) -> BTreeSet<(ModulePath, ModulePath)> {
    let room = |path: &[String]| path[..path.len().min(depth)].to_vec();
    let mut arrows = BTreeSet::new();
    for (from, module) in modules {
        for name in &module.named {
            let (from, to) = (room(from), room(&defining(modules, name)));
            if !to.starts_with(&from) {
                arrows.insert((from, to));
            }
        }
    }
    arrows
}

/// The arrows that lead, by others, back to where they begin.
fn in_circles(arrows: &BTreeSet<(ModulePath, ModulePath)>) -> Vec<String> {
    let reaches = |from: &ModulePath, to: &ModulePath| {
        let mut seen = BTreeSet::from([from]);
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            let next = arrows.iter().filter(|(from, _)| from == at).map(|(_, to)| to);
            open.extend(next.filter(|to| seen.insert(to)));
        }
        seen.contains(to)
    };
    let back = arrows.iter().filter(|(from, to)| reaches(to, from));
    back.map(|(from, to)| format!("{} -> {}", from.join("::"), to.join("::"))).collect()
}

/// The module that defines what `path` names. Names in scope are told apart by module alone, so the way may lead around: then where it
/// first comes by again.
fn defining(modules: &Modules, path: &[String]) -> ModulePath {
    let mut path = path;
    let mut seen = BTreeSet::new();
    loop {
        let lengths = (0..=path.len()).rev();
        let known = lengths.map(|length| &path[..length]).find(|known| modules.contains_key(*known)).unwrap_or(&[]);
        match path.get(known.len()).and_then(|name| modules[known].imported.get(name)) {
            Some(origin) if seen.insert(path) => path = origin,
            _ => return known.to_vec(),
        }
    }
}

fn modules(src: &Path) -> Modules {
    let mut modules = Modules::new();
    let root = ["lib.rs", "main.rs"].map(|name| src.join(name));
    add(&mut modules, Vec::new(), &root, src);
    modules
}

fn add(modules: &mut Modules, path: ModulePath, files: &[std::path::PathBuf], folder: &Path) {
    let file = files.iter().find(|file| file.exists()).unwrap_or_else(|| panic!("one of {files:?}"));
    let text = fs::read_to_string(file).expect("a module can be read");
    let parsed = syn::parse_file(&text).expect("a module is Rust");
    let mut module = Module { path: path.clone(), ..Module::default() };
    module.visit_file(&parsed);
    for child in &module.children {
        let inside = folder.join(child);
        let files = [folder.join(format!("{child}.rs")), inside.join("mod.rs")];
        add(modules, [path.as_slice(), std::slice::from_ref(child)].concat(), &files, &inside);
    }
    modules.insert(path, module);
}

impl Module {
    /// A path from the crate's root; `None` for one that leads to another crate.
    fn absolute(&self, path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.path.clone(),
            "super" => self.path.split_last()?.1.to_vec(),
            child if self.children.iter().any(|known| known == child) => {
                [self.path.as_slice(), &[child.into()]].concat()
            }
            _ => return None,
        };
        for part in rest {
            if part == "super" {
                at.pop();
            } else {
                at.push(part.clone());
            }
        }
        Some(at)
    }

    fn import(&mut self, tree: &UseTree, mut path: ModulePath, is_handed_on: bool) {
        let (name, known_as) = match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                return self.import(&tree.tree, path, is_handed_on);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(tree, path.clone(), is_handed_on));
            }
            UseTree::Glob(_) => ("self".to_owned(), "*".to_owned()),
            UseTree::Name(tree) => (tree.ident.to_string(), tree.ident.to_string()),
            UseTree::Rename(tree) => (tree.ident.to_string(), tree.rename.to_string()),
        };
        if name != "self" {
            path.push(name);
        }
        let Some(origin) = self.absolute(&path) else { return };
        if !is_handed_on {
            self.named.insert(origin.clone());
        }
        self.imported.insert(if known_as == "self" { path[path.len() - 1].clone() } else { known_as }, origin);
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_file(&mut self, file: &'ast syn::File) {
        // First the children, which a path may begin with.
        for item in &file.items {
            if let Item::Mod(module) = item
                && module.content.is_none()
                && !is_for_tests(&module.attrs)
            {
                self.children.push(module.ident.to_string());
            }
        }
        syn::visit::visit_file(self, file);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_for_tests(&module.attrs) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.import(&item.tree, Vec::new(), !matches!(item.vis, Visibility::Inherited));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if parts.len() > 1 {
            self.named.extend(self.absolute(&parts));
        }
        syn::visit::visit_path(self, path);
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let list = attribute.meta.require_list();
        attribute.path().is_ident("cfg")
            && list.is_ok_and(|list| list.tokens.to_string().split(' ').any(|word| word == "test"))
    })
}
