//! The tables of the status page.

use std::fmt::Display;

use maud::{Markup, html};

/// A column of a table.
pub(super) struct Column {
    title: &'static str,
    class: Option<&'static str>,
}

impl Column {
    /// Returns a column of short words.
    pub(super) const fn words(title: &'static str) -> Self {
        Self { title, class: None }
    }

    /// Returns a column of longer text, or of pictures.
    pub(super) const fn wide(title: &'static str) -> Self {
        let class = Some("w");
        Self { title, class }
    }

    /// Returns a column of numbers.
    pub(super) const fn numbers(title: &'static str) -> Self {
        let class = Some("n");
        Self { title, class }
    }
}

/// A row of a table.
#[derive(Default)]
pub(super) struct Row {
    cells: Vec<Markup>,
    marked: bool,
}

impl Row {
    /// Returns a row that stands out if `marked`.
    pub(super) fn new(marked: bool) -> Self {
        Self {
            marked,
            ..Self::default()
        }
    }

    /// Adds a cell of text.
    pub(super) fn cell(self, text: impl Display) -> Self {
        self.markup(html! { (text) })
    }

    /// Adds a cell of more than text.
    pub(super) fn markup(mut self, cell: Markup) -> Self {
        self.cells.push(cell);
        self
    }
}

/// Returns a table whose first column names the rows. A narrow screen shows each row as a block, for which the roles
/// and the labels are there.
pub(super) fn table(
    caption: impl Display,
    columns: &[Column],
    rows: impl IntoIterator<Item = Row>,
) -> Markup {
    html! {
        table role="table" {
            caption { (caption) }
            thead role="rowgroup" {
                tr role="row" {
                    @for Column { title, class } in columns {
                        th role="columnheader" scope="col" class=[class] { (title) }
                    }
                }
            }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" class=[row.marked.then_some("mark")] {
                        @for (at, (cell, Column { title, class })) in row.cells.iter().zip(columns).enumerate() {
                            @if at == 0 {
                                th role="rowheader" scope="row" class=[class] data-label=(title) { (cell) }
                            } @else {
                                td role="cell" class=[class] data-label=(title) { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}
