//! Circles in the import graph of a crate.

use super::crates::FileId;
use super::imports::Graph;
use std::collections::{BTreeMap, BTreeSet};

/// The most files of one folder that may depend on each other in a circle.
const LARGEST: usize = 3;

pub(crate) struct Circles<'a> {
    graph: &'a Graph,
    /// Sets of at least two files, in which each file leads to every other one.
    files: Vec<Vec<FileId>>,
    /// The same for the topmost folders. A file that is in no folder counts as a folder.
    folders: Vec<Vec<String>>,
    /// The file that makes one topmost folder use another one.
    between: BTreeMap<(String, String), String>,
}

impl<'a> Circles<'a> {
    pub(crate) fn of(graph: &'a Graph) -> Self {
        let edges: Vec<Vec<usize>> = graph
            .uses
            .iter()
            .map(|uses| uses.keys().copied().collect())
            .collect();
        let files = components(&edges);

        let room = |file: FileId| match graph.folders[file].split('/').next() {
            None | Some("") => graph.labels[file].clone(),
            Some(folder) => folder.to_owned(),
        };
        let mut between = BTreeMap::new();
        for (file, uses) in graph.uses.iter().enumerate() {
            for (used, name) in uses {
                let pair = (room(file), room(*used));
                if pair.0 != pair.1 {
                    let reason = format!(
                        "{} uses {name} of {}",
                        graph.labels[file], graph.labels[*used]
                    );
                    between.entry(pair).or_insert(reason);
                }
            }
        }
        let rooms: Vec<String> = (0..graph.labels.len())
            .map(room)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let number = |name: &String| rooms.binary_search(name).unwrap_or_default();
        let mut edges = vec![Vec::new(); rooms.len()];
        for (from, to) in between.keys() {
            edges[number(from)].push(number(to));
        }
        // For files that are in no folder, the rule for files inside one folder holds.
        let is_folder = |name: &String| {
            graph
                .folders
                .iter()
                .any(|folder| folder.split('/').next() == Some(name))
        };
        let named = |circle: Vec<usize>| {
            circle
                .into_iter()
                .map(|id| rooms[id].clone())
                .collect::<Vec<_>>()
        };
        let folders = components(&edges)
            .into_iter()
            .map(named)
            .filter(|circle| circle.iter().any(is_folder))
            .collect();
        Self {
            graph,
            files,
            folders,
            between,
        }
    }

    pub(crate) fn summary(&self) -> String {
        let largest = self.files.iter().map(Vec::len).max().unwrap_or(0);
        format!(
            "circles of files: {} (largest {largest}), of folders: {}",
            self.files.len(),
            self.folders.len()
        )
    }

    pub(crate) fn findings(&self, name: &str) -> Vec<String> {
        let mut findings = Vec::new();
        for circle in &self.files {
            let folders: BTreeSet<&String> = circle
                .iter()
                .map(|file| &self.graph.folders[*file])
                .collect();
            let what = if folders.len() > 1 {
                "of different folders"
            } else if circle.len() > LARGEST {
                "in one folder"
            } else {
                continue;
            };
            let labels: Vec<&str> = circle
                .iter()
                .map(|file| self.graph.labels[*file].as_str())
                .collect();
            let mut text = format!(
                "src/{name}: a circle of {} files {what}: {}",
                circle.len(),
                labels.join(", ")
            );
            for file in circle {
                for (used, item) in self.graph.uses[*file]
                    .iter()
                    .filter(|(used, _)| circle.contains(used))
                {
                    let (from, to) = (&self.graph.labels[*file], &self.graph.labels[*used]);
                    text += &format!("\n    {from} uses {item} of {to}");
                }
            }
            findings.push(text);
        }
        for circle in &self.folders {
            let mut text = format!("src/{name}: a circle of folders: {}", circle.join(", "));
            for ((from, to), reason) in &self.between {
                if circle.contains(from) && circle.contains(to) {
                    text += &format!("\n    {from} -> {to}: {reason}");
                }
            }
            findings.push(text);
        }
        findings
    }
}

/// Returns the strongly connected components of at least two nodes, by Tarjan's algorithm.
fn components(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    struct Walk<'a> {
        edges: &'a [Vec<usize>],
        order: Vec<Option<usize>>,
        low: Vec<usize>,
        stack: Vec<usize>,
        on_stack: Vec<bool>,
        next: usize,
        found: Vec<Vec<usize>>,
    }
    impl Walk<'_> {
        fn visit(&mut self, node: usize) {
            self.order[node] = Some(self.next);
            self.low[node] = self.next;
            self.next += 1;
            self.stack.push(node);
            self.on_stack[node] = true;
            for &to in &self.edges[node] {
                match self.order[to] {
                    None => {
                        self.visit(to);
                        self.low[node] = self.low[node].min(self.low[to]);
                    }
                    Some(order) if self.on_stack[to] => self.low[node] = self.low[node].min(order),
                    Some(_) => {}
                }
            }
            if Some(self.low[node]) != self.order[node] {
                return;
            }
            let mut component = Vec::new();
            while let Some(last) = self.stack.pop() {
                self.on_stack[last] = false;
                component.push(last);
                if last == node {
                    break;
                }
            }
            if component.len() > 1 {
                component.sort_unstable();
                self.found.push(component);
            }
        }
    }
    let count = edges.len();
    let mut walk = Walk {
        edges,
        order: vec![None; count],
        low: vec![0; count],
        stack: Vec::new(),
        on_stack: vec![false; count],
        next: 0,
        found: Vec::new(),
    };
    for node in 0..count {
        if walk.order[node].is_none() {
            walk.visit(node);
        }
    }
    walk.found.sort();
    walk.found
}

#[cfg(test)]
mod tests {
    use super::components;

    #[test]
    fn a_circle_is_found_and_a_chain_is_none() {
        let edges = [vec![1], vec![2], vec![0, 3], vec![4], vec![]];
        assert_eq!(components(&edges), [vec![0, 1, 2]]);
    }
}
