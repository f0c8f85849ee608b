//! Writing HTML safely: markup comes only from literals in this program, everything else is escaped.

use std::fmt::{self, Display, Write};

use super::units::calendar;

/// A piece of HTML.
#[derive(Default)]
pub(super) struct Markup {
    html: String,
}

impl Markup {
    /// Appends a literal.
    pub(super) fn raw(&mut self, html: &'static str) -> &mut Self {
        self.html.push_str(html);
        self
    }

    /// Appends any other text, escaped.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to a `String` does not fail.
        let _ = write!(Escape(&mut self.html), "{text}");
        self
    }

    /// Appends an attribute to the open tag.
    pub(super) fn attribute(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.raw(" ").raw(name).raw("=\"").text(value).raw("\"")
    }

    /// Appends an element that holds only text.
    pub(super) fn element(&mut self, tag: &'static str, text: impl Display) -> &mut Self {
        self.raw("<").raw(tag).raw(">").text(text);
        self.raw("</").raw(tag).raw(">")
    }

    /// Appends a time of day in a `time` element, which programs can read, too.
    pub(super) fn moment(&mut self, unix: f64) -> &mut Self {
        let (date, time) = calendar(unix);
        self.raw("<time")
            .attribute("datetime", format_args!("{date}T{time}Z"));
        self.attribute("title", format_args!("{date} {time} UTC"));
        self.raw(">")
            .text(format_args!("{time} UTC"))
            .raw("</time>")
    }

    /// Appends another piece.
    pub(super) fn piece(&mut self, piece: &Markup) -> &mut Self {
        self.html.push_str(&piece.html);
        self
    }

    pub(super) fn finish(self) -> String {
        self.html
    }

    /// Appends a table whose first column names the rows. On narrow screens each row is shown as a separate block; the
    /// roles and labels are for that.
    pub(super) fn table(
        &mut self,
        caption: impl Display,
        columns: &[Column],
        rows: impl IntoIterator<Item = Row>,
    ) {
        self.raw("<table role=\"table\"><caption>").text(caption);
        self.raw("</caption><thead role=\"rowgroup\"><tr role=\"row\">");
        for column in columns {
            self.raw("<th role=\"columnheader\" scope=\"col\"");
            self.raw(column.class).raw(">");
            self.text(column.title).raw("</th>");
        }
        self.raw("</tr></thead><tbody role=\"rowgroup\">");
        for row in rows {
            self.raw("<tr role=\"row\"");
            if row.marked {
                self.raw(" class=\"mark\"");
            }
            self.raw(">");
            for (at, (cell, column)) in row.cells.iter().zip(columns).enumerate() {
                let (begin, end) = match at {
                    0 => ("<th role=\"rowheader\" scope=\"row\"", "</th>"),
                    _ => ("<td role=\"cell\"", "</td>"),
                };
                self.raw(begin).raw(column.class);
                self.attribute("data-label", column.title).raw(">");
                self.piece(cell).raw(end);
            }
            self.raw("</tr>");
        }
        self.raw("</tbody></table>");
    }
}

/// A column of a table.
pub(super) struct Column {
    title: &'static str,
    class: &'static str,
}

impl Column {
    /// A column of words.
    pub(super) const fn words(title: &'static str) -> Self {
        Self { title, class: "" }
    }

    /// A column of longer text, or of pictures.
    pub(super) const fn wide(title: &'static str) -> Self {
        Self {
            title,
            class: " class=\"w\"",
        }
    }

    /// A column of numbers.
    pub(super) const fn numbers(title: &'static str) -> Self {
        Self {
            title,
            class: " class=\"n\"",
        }
    }
}

/// A row of a table.
#[derive(Default)]
pub(super) struct Row {
    cells: Vec<Markup>,
    marked: bool,
}

impl Row {
    /// Returns an empty row, highlighted if `marked`.
    pub(super) fn new(marked: bool) -> Self {
        Self {
            cells: Vec::new(),
            marked,
        }
    }

    /// Appends a cell of text.
    pub(super) fn cell(self, text: impl Display) -> Self {
        self.with(|cell| {
            cell.text(text);
        })
    }

    /// Appends a cell with markup.
    pub(super) fn with(mut self, write: impl FnOnce(&mut Markup)) -> Self {
        let mut cell = Markup::default();
        write(&mut cell);
        self.cells.push(cell);
        self
    }
}

/// Escapes text for HTML, inside and outside of attributes. Control characters become U+FFFD.
struct Escape<'a>(&'a mut String);

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c if c.is_control() => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}
