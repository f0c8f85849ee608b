//! The parts of a dashboard. The tables themselves are in `overview`, `interpreters` and `server`.

use crate::parameters::Parameters;

/// A dashboard: sections, from top to bottom in reading order.
#[derive(Debug)]
pub struct Dashboard {
    /// Name of the file without `.json`, and end of the uid.
    pub name: &'static str,
    /// Title.
    pub title: &'static str,
    /// The question that it answers, in one sentence.
    pub description: &'static str,
    /// Whether applications can be selected.
    pub by_application: bool,
    /// Sections.
    pub sections: &'static [Section],
}

/// A section: panels under a question.
#[derive(Debug)]
pub struct Section {
    /// The question that the panels answer.
    pub question: &'static str,
    /// Panels, placed from left to right.
    pub panels: &'static [Panel],
}

/// How a panel draws its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A line for each series.
    Lines,
    /// Areas on top of each other, for series whose sum has a meaning.
    Stacked,
    /// The last value, large.
    Number,
    /// Buckets of a histogram over time.
    Heatmap,
    /// Labels of the newest samples.
    Table,
}

/// One panel.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// Title.
    pub title: &'static str,
    /// What the panel shows and how to read it.
    pub description: &'static str,
    /// Grafana's name of the unit.
    pub unit: &'static str,
    /// How the panel draws its data.
    pub view: View,
    /// Width in 24ths.
    pub width: u32,
    /// Threshold of the panel's alert: drawn as a line, or as a change of the number's colour.
    pub limit: Option<fn(&Parameters) -> f64>,
    /// Heading in the runbook.
    pub runbook: &'static str,
    /// Queries.
    pub targets: &'static [Target],
    /// Why the panel may be empty on a healthy server; `None` if it may not.
    pub may_be_empty: Option<&'static str>,
}

/// Defaults of a panel.
pub(crate) const PANEL: Panel = Panel {
    title: "",
    description: "",
    unit: "short",
    view: View::Lines,
    width: 12,
    limit: None,
    runbook: crate::runbook::BEGIN,
    targets: &[],
    may_be_empty: None,
};

/// One query of a panel.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the series; `{{label}}` stands for a label's value.
    pub legend: &'static str,
    /// PromQL, with `$S` for the selected servers, `$A` for the selected servers and applications, `$R` for the rate
    /// interval.
    pub expr: &'static str,
}

/// Returns a row of a table of targets.
pub(crate) const fn target(legend: &'static str, expr: &'static str) -> Target {
    Target { legend, expr }
}

impl Target {
    /// Returns the query with Grafana's variables.
    pub fn grafana(&self) -> String {
        written_out(self.expr)
    }
}

/// Expands the abbreviations of the tables.
pub(crate) fn written_out(expr: &str) -> String {
    expr.replace("$A", "$S, app=~\"$app\"")
        .replace("$S", "job=~\"$job\", instance=~\"$instance\"")
        .replace("$R", "$__rate_interval")
}

impl Panel {
    /// Returns the height, in Grafana's rows of 30 pixels.
    pub const fn height(&self) -> u32 {
        match self.view {
            View::Number => 4,
            View::Table => 6,
            View::Lines | View::Stacked | View::Heatmap => 8,
        }
    }

    /// Returns whether only the newest samples are queried.
    pub const fn instant(&self) -> bool {
        matches!(self.view, View::Table)
    }
}

/// A position and size on the grid, which is 24 wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Columns from the left.
    pub x: u32,
    /// Rows from the top.
    pub y: u32,
    /// Width.
    pub w: u32,
    /// Height.
    pub h: u32,
}

/// The content of a position.
#[derive(Clone, Copy, Debug)]
pub enum Item {
    /// The question of a section.
    Heading(&'static str),
    /// A panel.
    Panel(&'static Panel),
}

impl Dashboard {
    /// Returns headings and panels with their positions.
    pub fn layout(&self) -> Vec<(Item, Place)> {
        let mut items = Vec::new();
        let mut y = 0;
        for section in self.sections {
            items.push((
                Item::Heading(section.question),
                Place {
                    x: 0,
                    y,
                    w: 24,
                    h: 1,
                },
            ));
            y += 1;
            let (mut x, mut tallest) = (0, 0);
            for panel in section.panels {
                if x + panel.width > 24 {
                    (x, y, tallest) = (0, y + tallest, 0);
                }
                items.push((
                    Item::Panel(panel),
                    Place {
                        x,
                        y,
                        w: panel.width,
                        h: panel.height(),
                    },
                ));
                x += panel.width;
                tallest = tallest.max(panel.height());
            }
            y += tallest;
        }
        items
    }

    /// Returns all panels, in reading order.
    pub fn panels(&self) -> impl Iterator<Item = &'static Panel> {
        self.sections.iter().flat_map(|section| section.panels)
    }
}
