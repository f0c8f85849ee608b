//! Finds type names that a crate has twice.

use super::crates::{Crate, attributes};
use std::collections::BTreeMap;

pub(crate) fn duplicates(parsed: &Crate) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<(usize, usize, bool)>> = BTreeMap::new();
    for module in &parsed.modules {
        for item in &module.items {
            let ident = match item {
                syn::Item::Enum(item) => &item.ident,
                syn::Item::Struct(item) => &item.ident,
                syn::Item::Trait(item) => &item.ident,
                syn::Item::Type(item) => &item.ident,
                syn::Item::Union(item) => &item.ident,
                _ => continue,
            };
            let conditional = attributes(item)
                .iter()
                .any(|attribute| attribute.path().is_ident("cfg"));
            let line = ident.span().start().line;
            places
                .entry(ident.to_string())
                .or_default()
                .push((module.file, line, conditional));
        }
    }
    places
        .into_iter()
        // One file may have two forms of a type if each build compiles only one of them.
        .filter(|(_, places)| {
            let alternatives = places.iter().all(|place| place.0 == places[0].0 && place.2);
            places.len() > 1 && !alternatives
        })
        .map(|(name, places)| {
            let at = |(file, line, _): &(usize, usize, bool)| {
                format!("{}:{line}", parsed.files[*file].path.display())
            };
            let places: Vec<String> = places.iter().map(at).collect();
            format!(
                "src/{}: {name} is defined {} times: {}",
                parsed.name,
                places.len(),
                places.join(", ")
            )
        })
        .collect()
}
