//! What a dashboard is made of. The tables themselves are in `overview`, `interpreters` and `server`.

use crate::parameters::Parameters;

/// A dashboard: sections, from top to bottom in reading order.
#[derive(Debug)]
pub struct Dashboard {
    /// The name of its file, without `.json`, and the end of its uid.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it answers, in one sentence.
    pub description: &'static str,
    /// Whether one can choose applications.
    pub by_application: bool,
    /// Its sections.
    pub sections: &'static [Section],
}

/// Panels under a question.
#[derive(Debug)]
pub struct Section {
    /// The question that the panels answer.
    pub question: &'static str,
    /// The panels, filled in from left to right.
    pub panels: &'static [Panel],
}

/// How a panel draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A line for each series.
    Lines,
    /// Areas on top of each other, where the sum means something.
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
    /// Its title.
    pub title: &'static str,
    /// What it shows and how to read it.
    pub description: &'static str,
    /// Grafana's name of the unit.
    pub unit: &'static str,
    /// How it draws.
    pub view: View,
    /// Its width in 24ths.
    pub width: u32,
    /// Where the alert of this panel fires: drawn as a line, or changing the colour of a number.
    pub limit: Option<fn(&Parameters) -> f64>,
    /// The heading in the runbook.
    pub runbook: &'static str,
    /// The queries.
    pub targets: &'static [Target],
    /// Why it may be empty on a server that is well, if it may.
    pub may_be_empty: Option<&'static str>,
}

/// What most panels share.
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
    /// What to call its series; `{{label}}` stands for a label's value.
    pub legend: &'static str,
    /// PromQL, with `$S` for the chosen servers, `$A` for these and the chosen applications, `$R` for the rate interval.
    pub expr: &'static str,
}

/// A row of a table of targets.
pub(crate) const fn target(legend: &'static str, expr: &'static str) -> Target {
    Target { legend, expr }
}

impl Target {
    /// PromQL as Grafana wants it.
    pub fn grafana(&self) -> String {
        written_out(self.expr)
    }
}

/// Writes out the abbreviations of the tables.
pub(crate) fn written_out(expr: &str) -> String {
    expr.replace("$A", "$S, app=~\"$app\"")
        .replace("$S", "job=~\"$job\", instance=~\"$instance\"")
        .replace("$R", "$__rate_interval")
}

impl Panel {
    /// Its height, in Grafana's rows of 30 pixels.
    pub const fn height(&self) -> u32 {
        match self.view {
            View::Number => 4,
            View::Table => 6,
            View::Lines | View::Stacked | View::Heatmap => 8,
        }
    }

    /// Whether only the newest samples are asked for.
    pub const fn instant(&self) -> bool {
        matches!(self.view, View::Table)
    }
}

/// Where something stands on the grid, which is 24 wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From the left.
    pub x: u32,
    /// From the top.
    pub y: u32,
    /// Width.
    pub w: u32,
    /// Height.
    pub h: u32,
}

/// What stands at a place.
#[derive(Clone, Copy, Debug)]
pub enum Item {
    /// The question of a section.
    Heading(&'static str),
    /// A panel.
    Panel(&'static Panel),
}

impl Dashboard {
    /// Questions and panels with their places.
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

    /// All panels, in reading order.
    pub fn panels(&self) -> impl Iterator<Item = &'static Panel> {
        self.sections.iter().flat_map(|section| section.panels)
    }
}
