//! Writing HTML so that nothing gets in: markup is what stands in this program, everything else is text.

use std::fmt::{self, Display, Write};

use super::units::calendar;

/// A piece of HTML.
#[derive(Default)]
pub(super) struct Markup {
    html: String,
}

impl Markup {
    /// What stands in the program.
    pub(super) fn raw(&mut self, html: &'static str) -> &mut Self {
        self.html.push_str(html);
        self
    }

    /// Anything else.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // A `String` takes everything.
        let _ = write!(Escape(&mut self.html), "{text}");
        self
    }

    /// An attribute of the tag that was begun.
    pub(super) fn attribute(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.raw(" ").raw(name).raw("=\"").text(value).raw("\"")
    }

    /// A tag with nothing but text in it.
    pub(super) fn element(&mut self, tag: &'static str, text: impl Display) -> &mut Self {
        self.raw("<").raw(tag).raw(">").text(text);
        self.raw("</").raw(tag).raw(">")
    }

    /// A time of day that machines understand, too.
    pub(super) fn moment(&mut self, unix: f64) -> &mut Self {
        let (date, time) = calendar(unix);
        self.raw("<time")
            .attribute("datetime", format_args!("{date}T{time}Z"));
        self.attribute("title", format_args!("{date} {time} UTC"));
        self.raw(">")
            .text(format_args!("{time} UTC"))
            .raw("</time>")
    }

    /// Another piece.
    pub(super) fn piece(&mut self, piece: &Markup) -> &mut Self {
        self.html.push_str(&piece.html);
        self
    }

    pub(super) fn finish(self) -> String {
        self.html
    }

    /// A table; the first column names the rows. The roles and the labels are there because on narrow screens each row
    /// is shown as a block of its own.
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
    /// One of words.
    pub(super) const fn words(title: &'static str) -> Self {
        Self { title, class: "" }
    }

    /// One of more than a few words, or of a picture.
    pub(super) const fn wide(title: &'static str) -> Self {
        Self {
            title,
            class: " class=\"w\"",
        }
    }

    /// One of numbers.
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
    /// One that stands out if `marked`.
    pub(super) fn new(marked: bool) -> Self {
        Self {
            cells: Vec::new(),
            marked,
        }
    }

    /// A cell of text.
    pub(super) fn cell(self, text: impl Display) -> Self {
        self.with(|cell| {
            cell.text(text);
        })
    }

    /// A cell of more than text.
    pub(super) fn with(mut self, write: impl FnOnce(&mut Markup)) -> Self {
        let mut cell = Markup::default();
        write(&mut cell);
        self.cells.push(cell);
        self
    }
}

/// Passes text on as HTML that shows it, inside and outside of attributes; control characters become U+FFFD.
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
