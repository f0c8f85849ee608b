//! Finds which file of a crate uses which other file, from the paths in the source.
//!
//! A path leads to the file that defines the item, through all re-exports. A re-export of something from a module below
//! is no use: it adds no edge.

use super::crates::{self, Crate, FileId, ModuleId};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use syn::visit::{self, Visit};

pub(crate) struct Graph {
    pub(crate) labels: Vec<String>,
    pub(crate) folders: Vec<String>,
    /// For each file, the files that it uses, each with the first name that it uses from it.
    pub(crate) uses: Vec<BTreeMap<FileId, String>>,
}

/// The names that a module knows.
#[derive(Default)]
struct Scope {
    defined: HashSet<String>,
    /// Names brought in by `use`, with the path as written.
    aliases: HashMap<String, Vec<String>>,
    /// `use path::*`.
    globs: Vec<Vec<String>>,
}

impl Graph {
    pub(crate) fn of(parsed: &Crate) -> Self {
        let resolver = Resolver {
            parsed,
            scopes: (0..parsed.modules.len())
                .map(|id| scope(parsed, id))
                .collect(),
        };
        let mut graph = Self {
            labels: parsed.files.iter().map(crates::File::label).collect(),
            folders: parsed
                .files
                .iter()
                .map(|file| file.folder.display().to_string())
                .collect(),
            uses: vec![BTreeMap::new(); parsed.files.len()],
        };
        for (id, module) in parsed.modules.iter().enumerate() {
            let mut paths = Paths::default();
            for item in &module.items {
                paths.visit_item(item);
            }
            for (path, reexport) in paths.found {
                let Some((target, file)) = resolver.resolve(id, &path) else {
                    continue;
                };
                if file == module.file || reexport && resolver.is_below(target, id) {
                    continue;
                }
                let name = path.last().cloned().unwrap_or_default();
                graph.uses[module.file].entry(file).or_insert(name);
            }
        }
        graph
    }

    pub(crate) fn print(&self) -> String {
        let mut lines: BTreeSet<String> = BTreeSet::new();
        for (file, uses) in self.uses.iter().enumerate() {
            let mut line = format!("{}:", self.labels[file]);
            let names: BTreeSet<_> = uses.keys().map(|used| &self.labels[*used]).collect();
            for name in names {
                let _ = write!(line, " {name}");
            }
            lines.insert(line);
        }
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

fn scope(parsed: &Crate, id: ModuleId) -> Scope {
    let mut scope = Scope::default();
    for item in &parsed.modules[id].items {
        let name = match item {
            syn::Item::Const(item) => &item.ident,
            syn::Item::Enum(item) => &item.ident,
            syn::Item::Fn(item) => &item.sig.ident,
            syn::Item::Static(item) => &item.ident,
            syn::Item::Struct(item) => &item.ident,
            syn::Item::Trait(item) => &item.ident,
            syn::Item::Type(item) => &item.ident,
            syn::Item::Union(item) => &item.ident,
            syn::Item::Macro(item) => match &item.ident {
                Some(ident) => ident,
                None => continue,
            },
            syn::Item::Use(item) => {
                let start = if item.leading_colon.is_some() {
                    vec![String::new()]
                } else {
                    Vec::new()
                };
                flatten(&item.tree, &start, &mut |path, name| match name {
                    Some(name) => drop(scope.aliases.insert(name, path)),
                    None => scope.globs.push(path),
                });
                continue;
            }
            _ => continue,
        };
        scope.defined.insert(name.to_string());
    }
    scope
}

/// Calls `each` with every path of a `use`, and with the name that the path gets; without a name for `*`.
fn flatten(
    tree: &syn::UseTree,
    before: &[String],
    each: &mut impl FnMut(Vec<String>, Option<String>),
) {
    let with = |name: &syn::Ident| {
        let mut path = before.to_vec();
        path.push(name.to_string());
        path
    };
    match tree {
        syn::UseTree::Path(path) => flatten(&path.tree, &with(&path.ident), each),
        syn::UseTree::Name(name) if name.ident == "self" => {
            each(before.to_vec(), before.last().cloned())
        }
        syn::UseTree::Name(name) => each(with(&name.ident), Some(name.ident.to_string())),
        syn::UseTree::Rename(rename) if rename.ident == "self" => {
            each(before.to_vec(), Some(rename.rename.to_string()));
        }
        syn::UseTree::Rename(rename) => each(with(&rename.ident), Some(rename.rename.to_string())),
        syn::UseTree::Glob(_) => each(before.to_vec(), None),
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, before, each);
            }
        }
    }
}

struct Resolver<'a> {
    parsed: &'a Crate,
    scopes: Vec<Scope>,
}

/// The depth to which aliases of aliases are followed.
const DEPTH: usize = 16;

impl Resolver<'_> {
    /// Returns the module in which a path of this crate ends, and the file that defines the item that it names.
    fn resolve(&self, from: ModuleId, path: &[String]) -> Option<(ModuleId, FileId)> {
        self.start(from, path, DEPTH)
            .map(|module| (module, self.parsed.modules[module].file))
    }

    fn start(&self, from: ModuleId, path: &[String], depth: usize) -> Option<ModuleId> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "" => None,
            "crate" | "$crate" => self.walk(0, rest, depth),
            "self" => self.walk(from, rest, depth),
            "super" => self.walk(self.parsed.modules[from].parent?, rest, depth),
            _ => self.step(from, path, depth),
        }
    }

    /// Follows a path inside `module`; unknown names count as the module's own.
    fn walk(&self, module: ModuleId, path: &[String], depth: usize) -> Option<ModuleId> {
        match path.split_first() {
            None => Some(module),
            Some((first, rest)) if first == "super" => {
                self.walk(self.parsed.modules[module].parent?, rest, depth)
            }
            Some(_) => self.step(module, path, depth).or(Some(module)),
        }
    }

    /// Follows a path whose first name `module` knows; returns `None` if it does not know it.
    fn step(&self, module: ModuleId, path: &[String], depth: usize) -> Option<ModuleId> {
        let depth = depth.checked_sub(1)?;
        let (first, rest) = path.split_first()?;
        let child = |id: &&ModuleId| self.parsed.modules[**id].name == *first;
        if let Some(child) = self.parsed.modules[module].children.iter().find(child) {
            return self.walk(*child, rest, depth);
        }
        let scope = &self.scopes[module];
        if scope.defined.contains(first) {
            return Some(module);
        }
        if let Some(alias) = scope.aliases.get(first) {
            // `use regex;` names a crate.
            if alias.len() == 1 && alias[0] == *first {
                return None;
            }
            let whole: Vec<String> = alias.iter().chain(rest).cloned().collect();
            return self.start(module, &whole, depth);
        }
        scope.globs.iter().find_map(|glob| {
            let target = self.start(module, glob, depth)?;
            if target == module {
                None
            } else {
                self.step(target, path, depth)
            }
        })
    }

    fn is_below(&self, module: ModuleId, above: ModuleId) -> bool {
        let mut next = self.parsed.modules[module].parent;
        while let Some(id) = next {
            if id == above {
                return true;
            }
            next = self.parsed.modules[id].parent;
        }
        false
    }
}

/// All paths in the items of a module, and whether each is re-exported.
#[derive(Default)]
struct Paths {
    found: Vec<(Vec<String>, bool)>,
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !crates::for_tests(crates::attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let reexport = !matches!(item.vis, syn::Visibility::Inherited);
        let start = if item.leading_colon.is_some() {
            vec![String::new()]
        } else {
            Vec::new()
        };
        flatten(&item.tree, &start, &mut |path, _| {
            self.found.push((path, reexport))
        });
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            self.found.push((
                path.segments
                    .iter()
                    .map(|segment| segment.ident.to_string())
                    .collect(),
                false,
            ));
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

impl Paths {
    /// Paths in the arguments or the body of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        let end = |path: &mut Vec<String>, found: &mut Vec<(Vec<String>, bool)>| {
            if path.len() > 1 {
                found.push((std::mem::take(path), false));
            }
            path.clear();
        };
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        end(&mut path, &mut self.found);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    end(&mut path, &mut self.found);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        end(&mut path, &mut self.found);
    }
}
