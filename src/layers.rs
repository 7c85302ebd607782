//! Holds the layers of the crate: a file imports from its own layer or from one below, never from
//! one above, and no files import each other in a circle.
//!
//! It reads the `use` lines and the paths of the source, as the compiler would: from `lib.rs` along
//! the `mod` lines, without what only tests see.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemFn, ItemImpl, ItemMod, ItemUse, Macro, UseTree};

/// The layers, lowest first; rooms of one layer do not import from each other.
const LAYERS: &[&[&str]] = &[
    &["domain"],
    &["runtime"],
    &["storage", "delivery"],
    &["config"],
    &["isolate"],
    &["app"],
    &["service"],
    &["api", "tools"],
    &["lib"],
];

/// A module path below the crate: `service::tick` is `["service", "tick"]`.
type Module = Vec<String>;

/// What each file imports, by file.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// One file while it is read.
struct Reader<'a> {
    /// The module that is being read: the file's own, or one that stands in it.
    module: Module,
    /// Modules that the file declares: its paths may begin with their names.
    declared: BTreeSet<String>,
    /// Paths that the file names, from the root of the crate.
    named: BTreeSet<Module>,
    /// Modules in files of their own.
    children: &'a mut Vec<Module>,
}

impl Reader<'_> {
    fn name(&mut self, segments: &[String]) {
        let mut place = self.module.clone();
        let mut rest = segments;
        loop {
            match rest.first().map(String::as_str) {
                Some("crate") => place.clear(),
                Some("self") => {}
                Some("super") => drop(place.pop()),
                _ => break,
            }
            rest = &rest[1..];
        }
        let is_below = || {
            segments
                .first()
                .is_some_and(|name| self.declared.contains(name))
        };
        if rest.len() < segments.len() || is_below() {
            place.extend_from_slice(rest);
            self.named.insert(place);
        }
    }

    fn name_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.name_tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) => self.name(&with(&name.ident)),
            UseTree::Rename(name) => self.name(&with(&name.ident)),
            UseTree::Glob(_) => self.name(before),
            UseTree::Group(group) => {
                group
                    .items
                    .iter()
                    .for_each(|tree| self.name_tree(before, tree));
            }
        }
    }
}

fn declared(items: &[Item]) -> BTreeSet<String> {
    let modules = items.iter().filter_map(|item| match item {
        Item::Mod(item) if !is_test_only(&item.attrs) => Some(item.ident.to_string()),
        _ => None,
    });
    modules.collect()
}

fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .meta
                .require_list()
                .is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if is_test_only(&item.attrs) {
            return;
        }
        self.module.push(item.ident.to_string());
        if item.content.is_some() {
            visit::visit_item_mod(self, item);
        } else {
            self.children.push(self.module.clone());
        }
        self.module.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_test_only(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if !is_test_only(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test_only(&item.attrs) {
            self.name_tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        self.name(&segments.collect::<Vec<_>>());
        visit::visit_path(self, path);
    }

    // The inside of a macro is no syntax to `syn`: paths from the root are found as text.
    fn visit_macro(&mut self, item: &'ast Macro) {
        let text = item.tokens.to_string().replace(" :: ", "::");
        for path in text.split("crate::").skip(1) {
            let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            let path = &path[..end.unwrap_or(path.len())];
            self.named
                .insert(path.split("::").map(str::to_owned).collect());
        }
    }
}

/// Reads the crate, `source` giving the text of a file or none where there is no such file.
fn read(source: impl Fn(&str) -> Option<String>) -> Imports {
    let mut files: BTreeMap<Module, (String, BTreeSet<Module>)> = BTreeMap::new();
    let mut waiting: Vec<Module> = vec![Vec::new()];
    while let Some(module) = waiting.pop() {
        let stem = module.join("/");
        let places = if module.is_empty() {
            vec!["lib.rs".to_owned()]
        } else {
            vec![format!("{stem}.rs"), format!("{stem}/mod.rs")]
        };
        let found = places
            .into_iter()
            .find_map(|file| Some((source(&file)?, file)));
        let (text, file) = found.unwrap_or_else(|| panic!("no file of the module {stem}"));
        let tree = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut reader = Reader {
            module: module.clone(),
            declared: declared(&tree.items),
            named: BTreeSet::new(),
            children: &mut waiting,
        };
        reader.visit_file(&tree);
        let named = reader.named;
        files.insert(module, (file, named));
    }
    let file_of = |path: &Module| {
        (0..=path.len())
            .rev()
            .find_map(|end| Some(files.get(&path[..end])?.0.clone()))
    };
    files
        .values()
        .map(|(file, named)| {
            let imports = named
                .iter()
                .filter_map(file_of)
                .filter(|other| other != file);
            (file.clone(), imports.collect())
        })
        .collect()
}

fn room(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or_default()
}

fn layer(file: &str) -> usize {
    let found = LAYERS.iter().position(|rooms| rooms.contains(&room(file)));
    found.unwrap_or_else(|| panic!("{file} is in no layer: give its room a place in LAYERS"))
}

/// Imports that go up, or from one room into another of the same layer.
fn misplaced(imports: &Imports) -> Vec<String> {
    let mut found = Vec::new();
    for (file, others) in imports {
        for other in others {
            let is_below = layer(other) < layer(file) || room(other) == room(file);
            if !is_below {
                found.push(format!("{file} imports from {other}"));
            }
        }
    }
    found
}

/// A circle of imports, if there is one: each file of it imports from the next.
fn circle(imports: &Imports) -> Option<String> {
    fn walk<'a>(
        file: &'a str,
        imports: &'a Imports,
        path: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<String> {
        if let Some(start) = path.iter().position(|earlier| *earlier == file) {
            return Some([&path[start..], &[file]].concat().join(" -> "));
        }
        if !done.contains(file) {
            path.push(file);
            for other in &imports[file] {
                if let Some(found) = walk(other, imports, path, done) {
                    return Some(found);
                }
            }
            path.pop();
            done.insert(file);
        }
        None
    }
    let mut done = BTreeSet::new();
    imports
        .keys()
        .find_map(|file| walk(file, imports, &mut Vec::new(), &mut done))
}

fn this_crate() -> Imports {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    read(|file| fs::read_to_string(source.join(file)).ok())
}

#[test]
fn no_file_imports_from_a_layer_above_its_own() {
    let found = misplaced(&this_crate());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    assert_eq!(circle(&this_crate()), None);
}

/// A crate of these files, to see the checks fail.
fn made_up(files: &[(&str, &str)]) -> Imports {
    read(|wanted| {
        let found = files.iter().find(|(file, _)| *file == wanted)?;
        Some(found.1.to_owned())
    })
}

#[test]
fn imports_that_go_up_are_named() {
    let lib = "mod domain; mod service; mod storage; mod delivery;";
    let imports = made_up(&[
        ("lib.rs", lib),
        (
            "domain/mod.rs",
            "pub mod ids; fn f() { super::service::tick::tick(); }",
        ),
        (
            "domain/ids.rs",
            "pub struct Id; #[cfg(test)] mod tests { use crate::service; }",
        ),
        (
            "service/mod.rs",
            "pub mod tick; use crate::domain::ids::Id;",
        ),
        ("service/tick.rs", "pub fn tick() {}"),
        (
            "storage.rs",
            "use crate::{domain::ids::{self, Id}, delivery as d};",
        ),
        (
            "delivery.rs",
            "fn f() { format!(\"{}\", crate::storage::x()); }",
        ),
    ]);
    let expected = [
        "delivery.rs imports from storage.rs",
        "domain/mod.rs imports from service/tick.rs",
        "storage.rs imports from delivery.rs",
    ];
    assert_eq!(misplaced(&imports), expected);
}

#[test]
fn circles_are_named() {
    let straight = [
        ("lib.rs", "mod domain;"),
        ("domain/mod.rs", "pub mod a; pub mod b; pub struct X;"),
        ("domain/a.rs", "use super::b::{B as C};"),
        ("domain/b.rs", "use super::X;"),
    ];
    assert_eq!(circle(&made_up(&straight)), None);
    let parent = [
        ("lib.rs", "mod domain;"),
        ("domain/mod.rs", "mod a; pub use a::A; pub struct X;"),
        ("domain/a.rs", "use super::X;"),
    ];
    let found = circle(&made_up(&parent));
    assert_eq!(
        found.as_deref(),
        Some("domain/a.rs -> domain/mod.rs -> domain/a.rs")
    );
    let mut round = straight;
    round[3].1 = "use super::X; fn f(_: super::a::A) {}";
    let found = circle(&made_up(&round));
    assert_eq!(
        found.as_deref(),
        Some("domain/a.rs -> domain/b.rs -> domain/a.rs")
    );
}
