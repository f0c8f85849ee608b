//! The crates of src/, parsed: the tree of their modules, each with its file, without code that is compiled for tests
//! only.

use anyhow::{Context, Result, bail};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A module's number in [`Crate::modules`]; the root has 0.
pub(crate) type ModuleId = usize;
/// A file's number in [`Crate::files`].
pub(crate) type FileId = usize;

pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) files: Vec<File>,
    pub(crate) modules: Vec<Module>,
}

pub(crate) struct File {
    /// Relative to the crate's folder.
    pub(crate) path: PathBuf,
    /// The folder that the file belongs to. `x.rs` beside a folder `x` belongs to that folder.
    pub(crate) folder: PathBuf,
    text: String,
    /// Lines that are compiled for tests only.
    test_lines: HashSet<usize>,
}

pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) file: FileId,
    pub(crate) parent: Option<ModuleId>,
    pub(crate) children: Vec<ModuleId>,
    pub(crate) items: Vec<syn::Item>,
}

/// Returns the folders of the crates, in the order of their names.
pub(crate) fn folders(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join("src")).context("src/")? {
        let path = entry?.path();
        if path.join("Cargo.toml").exists() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the name of a crate's folder.
pub(crate) fn name(folder: &Path) -> String {
    folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

impl Crate {
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut parsed = Self {
            name: name(folder),
            files: Vec::new(),
            modules: Vec::new(),
        };
        let root = ["lib.rs", "main.rs"]
            .into_iter()
            .map(PathBuf::from)
            .find(|name| folder.join(name).exists());
        let root = root.context("neither lib.rs nor main.rs")?;
        parsed.read_file(folder, &root, Path::new(""), String::new(), None)?;
        Ok(parsed)
    }

    /// Reads the file of a module whose submodules are in `inside`.
    fn read_file(
        &mut self,
        folder: &Path,
        path: &Path,
        inside: &Path,
        name: String,
        parent: Option<ModuleId>,
    ) -> Result<ModuleId> {
        let text =
            fs::read_to_string(folder.join(path)).with_context(|| path.display().to_string())?;
        let parsed = syn::parse_file(&text).with_context(|| path.display().to_string())?;
        let own = if folder.join(inside).is_dir() {
            inside
        } else {
            path.parent().unwrap_or(Path::new(""))
        };
        let file = self.files.len();
        let test_lines = test_lines(&parsed);
        self.files.push(File {
            path: path.into(),
            folder: own.into(),
            text,
            test_lines,
        });
        self.add(folder, inside, name, file, parent, parsed.items)
    }

    fn add(
        &mut self,
        folder: &Path,
        inside: &Path,
        name: String,
        file: FileId,
        parent: Option<ModuleId>,
        items: Vec<syn::Item>,
    ) -> Result<ModuleId> {
        let id = self.modules.len();
        self.modules.push(Module {
            name,
            file,
            parent,
            children: Vec::new(),
            items: Vec::new(),
        });
        let mut own = Vec::new();
        for item in items
            .into_iter()
            .filter(|item| !for_tests(attributes(item)))
        {
            let syn::Item::Mod(module) = item else {
                own.push(item);
                continue;
            };
            let name = module.ident.to_string();
            let below = inside.join(&name);
            let child = match module.content {
                Some((_, items)) => self.add(folder, &below, name, file, Some(id), items)?,
                None => {
                    let candidates = [inside.join(format!("{name}.rs")), below.join("mod.rs")];
                    let Some(path) = candidates.iter().find(|path| folder.join(path).exists())
                    else {
                        bail!(
                            "no file for the module {name} of {}",
                            self.files[file].path.display()
                        );
                    };
                    self.read_file(folder, path, &below, name, Some(id))?
                }
            };
            self.modules[id].children.push(child);
        }
        self.modules[id].items = own;
        Ok(id)
    }

    /// Returns the number of lines that are not for tests, and how many of them are neither blank nor a comment.
    pub(crate) fn lines(&self) -> (usize, usize) {
        let mut all = 0;
        let mut code = 0;
        for file in &self.files {
            for (number, line) in file.text.lines().enumerate() {
                if file.test_lines.contains(&(number + 1)) {
                    continue;
                }
                all += 1;
                let line = line.trim();
                code += usize::from(!line.is_empty() && !line.starts_with("//"));
            }
        }
        (all, code)
    }
}

impl File {
    /// Returns the path without its ending, for printing.
    pub(crate) fn label(&self) -> String {
        self.path.with_extension("").display().to_string()
    }
}

/// Whether an item is compiled for tests only.
pub(crate) fn for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if attribute.path().is_ident("test") {
            return true;
        }
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Meta>()
                .is_ok_and(|condition| requires_test(&condition))
    })
}

fn requires_test(condition: &syn::Meta) -> bool {
    match condition {
        syn::Meta::Path(path) => path.is_ident("test") || path.is_ident("loom"),
        syn::Meta::List(list) if list.path.is_ident("all") || list.path.is_ident("any") => list
            .parse_args_with(
                syn::punctuated::Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated,
            )
            .is_ok_and(|parts| parts.iter().any(requires_test)),
        syn::Meta::List(_) | syn::Meta::NameValue(_) => false,
    }
}

/// Returns the attributes of an item.
pub(crate) fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::ExternCrate(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::ForeignMod(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::TraitAlias(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn test_lines(file: &syn::File) -> HashSet<usize> {
    struct Finder(HashSet<usize>);
    impl<'ast> Visit<'ast> for Finder {
        fn visit_item(&mut self, item: &'ast syn::Item) {
            let marked = attributes(item);
            if !for_tests(marked) {
                return visit::visit_item(self, item);
            }
            let first = marked
                .iter()
                .map(|attribute| attribute.span().start().line)
                .min();
            let span = item.span();
            self.0
                .extend(first.unwrap_or(span.start().line)..=span.end().line);
        }
    }
    let mut finder = Finder(HashSet::new());
    finder.visit_file(file);
    finder.0
}
