//! What of the library's interface can grow without breaking those who use it.

use std::{fs, path::Path};

use syn::{
    Attribute, Expr, ExprLit, Field, ItemEnum, ItemStruct, Lit, Meta, Visibility,
    visit::{Visit, visit_item_enum, visit_item_struct},
};

/// The public enums, and the structs with public fields.
#[derive(Default)]
struct Open {
    seen: usize,
    /// Those that can't grow, and don't say why.
    silent: Vec<String>,
}

impl Open {
    fn look(&mut self, name: &impl ToString, attributes: &[Attribute]) {
        self.seen += 1;
        let can_grow = attributes.iter().any(|attribute| attribute.path().is_ident("non_exhaustive"));
        let has_reason = attributes.iter().filter_map(doc).any(|line| line.trim_start().starts_with("Exhaustive: "));
        if can_grow == has_reason {
            self.silent.push(name.to_string());
        }
    }
}

fn doc(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(named) if named.path.is_ident("doc") => match &named.value {
            Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) => Some(line.value()),
            _ => None,
        },
        _ => None,
    }
}

impl Visit<'_> for Open {
    fn visit_item_enum(&mut self, item: &ItemEnum) {
        if matches!(item.vis, Visibility::Public(_)) {
            self.look(&item.ident, &item.attrs);
        }
        visit_item_enum(self, item);
    }

    fn visit_item_struct(&mut self, item: &ItemStruct) {
        let is_public = |field: &Field| matches!(field.vis, Visibility::Public(_));
        if matches!(item.vis, Visibility::Public(_)) && item.fields.iter().any(is_public) {
            self.look(&item.ident, &item.attrs);
        }
        visit_item_struct(self, item);
    }
}

fn look_through(folder: &Path, open: &mut Open) {
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("a folder is readable").path();
        if path.is_dir() {
            look_through(&path, open);
        } else {
            let source = fs::read_to_string(&path).expect("a source is a text");
            open.visit_file(&syn::parse_file(&source).expect("a source compiles"));
        }
    }
}

#[test]
fn every_public_enum_and_every_struct_with_public_fields_can_grow_or_says_why_not() {
    let mut open = Open::default();
    look_through(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/src"), &mut open);
    assert!(open.seen > 30, "{} are not all", open.seen);
    assert!(
        open.silent.is_empty(),
        "either `#[non_exhaustive]` or a paragraph of the docs that begins with \"Exhaustive: \": {}",
        open.silent.join(", ")
    );
}

#[test]
fn a_type_that_can_not_grow_and_one_that_contradicts_itself_are_seen() {
    let source = "
        pub enum A {} #[non_exhaustive] pub enum B {} enum C {}
        /// Text.
        ///
        /// Exhaustive: there is nothing else.
        pub struct D(pub u8);
        pub struct E { pub a: u8 } pub struct F { a: u8 }
        /// Exhaustive: it is not.
        #[non_exhaustive] pub enum G {}";
    let mut open = Open::default();
    open.visit_file(&syn::parse_file(source).unwrap());
    assert_eq!((open.seen, open.silent.as_slice()), (5, ["A", "E", "G"].map(str::to_owned).as_slice()));
}

/// The relay's interface, a line for each item.
const RELAY: &str = include_str!("../../../../relay/public-api.txt");

#[test]
fn the_relays_interface_shows_no_type_of_what_it_is_made_from() {
    assert!(RELAY.lines().count() > 50, "it is not all");
    for foreign in
        ["clap", "lapin", "tokio", "rustls", "hyper", "prometheus", "maud", "lru", "tracing", "opentelemetry"]
    {
        let shown: Vec<_> = RELAY
            .lines()
            .filter(|line| line.contains(&format!("{foreign}::")) || line.contains(&format!("{foreign}_")))
            .collect();
        assert_eq!(shown, [""; 0]);
    }
}

#[test]
fn what_is_public_of_the_relay_can_grow() {
    let has_public_fields = |name: &str| {
        RELAY.lines().filter(|line| line.starts_with("pub ") && !line.contains('(')).any(|line| {
            line.strip_prefix("pub ")
                .and_then(|line| line.split_once(": "))
                .is_some_and(|(field, _)| field.rsplit_once("::").is_some_and(|(of, _)| of == name))
        })
    };
    let can_not = RELAY.lines().filter_map(|line| {
        let name = line.strip_prefix("pub enum ").or(line.strip_prefix("pub struct "))?;
        (line.starts_with("pub enum") || has_public_fields(name)).then_some(name)
    });
    assert_eq!(can_not.collect::<Vec<_>>(), [""; 0]);
}
