//! Reads PromQL against the catalogue: metrics, labels and label values have to exist.

use promql_parser::label::{MatchOp, Matcher};
pub(crate) use promql_parser::parser::Expr;
use promql_parser::parser::{
    self, AggregateExpr, BinaryExpr, Call, LabelModifier, VectorMatchCardinality, VectorSelector,
};
use std::collections::{BTreeMap, BTreeSet};
use wsgi_dashboards::Choice;
use wsgi_dashboards::rules::RECORDINGS;
use wsgi_telemetry::catalogue::{self, Family, Kind, PROCESS_GROUP};

type Labels = BTreeSet<String>;

/// Returns the expression of a query with Grafana's variables in it.
pub(crate) fn parse(expr: &str) -> Result<Expr, String> {
    parser::parse(&Choice::everything("5m").fill(expr))
}

/// Calls `visit` with every node and the one above it.
pub(crate) fn walk<'a>(
    node: &'a Expr,
    parent: Option<&'a Expr>,
    visit: &mut impl FnMut(&'a Expr, Option<&'a Expr>),
) {
    visit(node, parent);
    match node {
        Expr::Aggregate(it) => {
            walk(&it.expr, Some(node), visit);
            if let Some(parameter) = &it.param {
                walk(parameter, Some(node), visit);
            }
        }
        Expr::Unary(it) => walk(&it.expr, Some(node), visit),
        Expr::Binary(it) => {
            walk(&it.lhs, Some(node), visit);
            walk(&it.rhs, Some(node), visit);
        }
        Expr::Paren(it) => walk(&it.expr, Some(node), visit),
        Expr::Subquery(it) => walk(&it.expr, Some(node), visit),
        Expr::Call(it) => it
            .args
            .args
            .iter()
            .for_each(|argument| walk(argument, Some(node), visit)),
        Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Extension(_) => {}
    }
}

/// Returns the family behind the name of a series, and whether it has the label `le`.
fn family(series: &str) -> Result<(&'static Family, bool), String> {
    if let Some(family) = catalogue::by_name(series) {
        return match family.kind {
            Kind::Histogram(_) => Err(format!(
                "{series} is a histogram: it has no series of that name"
            )),
            Kind::Counter | Kind::Gauge => Ok((family, false)),
        };
    }
    for suffix in ["_bucket", "_sum", "_count"] {
        let Some(family) = series.strip_suffix(suffix).and_then(catalogue::by_name) else {
            continue;
        };
        if let Kind::Histogram(_) = family.kind {
            return Ok((family, suffix == "_bucket"));
        }
    }
    Err(format!("there is no metric {series}"))
}

/// What is known when an expression is read.
#[derive(Default)]
pub(crate) struct Reader {
    /// Recorded series and their labels.
    recorded: BTreeMap<&'static str, Labels>,
    /// The families met.
    pub(crate) met: BTreeSet<&'static str>,
}

impl Reader {
    /// Returns the labels of what an expression returns, or what is wrong with it.
    fn labels(&mut self, expr: &Expr) -> Result<Labels, String> {
        match expr {
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs),
            Expr::Aggregate(it) => self.aggregate(it),
            Expr::Binary(it) => self.binary(it),
            Expr::Call(it) => self.call(it),
            Expr::Unary(it) => self.labels(&it.expr),
            Expr::Paren(it) => self.labels(&it.expr),
            Expr::Subquery(it) => self.labels(&it.expr),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(Labels::new()),
            Expr::Extension(_) => Err("an extension of the parser".into()),
        }
    }

    fn selector(&mut self, selector: &VectorSelector) -> Result<Labels, String> {
        let name = selector
            .name
            .as_deref()
            .ok_or("a selector without a metric")?;
        let server = ["job", "instance"].map(str::to_owned);
        if name == "up" {
            return Ok(server.into());
        }
        if let Some(labels) = self.recorded.get(name) {
            return Ok(labels.clone());
        }
        let (family, buckets) = family(name)?;
        self.met.insert(family.name);
        let mut labels = Labels::from(server);
        labels.extend(family.labels.iter().map(|label| label.name.to_owned()));
        labels.extend(family.has_app().then(|| "app".to_owned()));
        labels.extend(family.has_process_group().then(|| PROCESS_GROUP.to_owned()));
        labels.extend(buckets.then(|| "le".to_owned()));
        for matcher in &selector.matchers.matchers {
            if !labels.contains(&matcher.name) {
                return Err(format!("{name} has no label {}", matcher.name));
            }
            values_exist(family, matcher)?;
        }
        Ok(labels)
    }

    fn aggregate(&mut self, it: &AggregateExpr) -> Result<Labels, String> {
        let inner = self.labels(&it.expr)?;
        match &it.modifier {
            None => Ok(Labels::new()),
            Some(LabelModifier::Include(by)) => subset(&by.labels, &inner),
            Some(LabelModifier::Exclude(without)) => {
                let without = subset(&without.labels, &inner)?;
                Ok(&inner - &without)
            }
        }
    }

    fn binary(&mut self, it: &BinaryExpr) -> Result<Labels, String> {
        let (left, right) = (self.labels(&it.lhs)?, self.labels(&it.rhs)?);
        let scalar = |expr: &Expr| expr.value_type() == parser::value::ValueType::Scalar;
        if scalar(&it.lhs) || scalar(&it.rhs) {
            return Ok(&left | &right);
        }
        if it.op.to_string() == "or" {
            return Ok(&left | &right);
        }
        let modifier = it.modifier.as_ref();
        match modifier.and_then(|it| it.matching.as_ref()) {
            None if left != right => Err(format!(
                "{left:?} on one side and {right:?} on the other never match"
            )),
            None => Ok(left),
            Some(LabelModifier::Exclude(_)) => Err("ignoring(...) is not read here yet".into()),
            Some(LabelModifier::Include(on)) => {
                let on = subset(&on.labels, &left).and(subset(&on.labels, &right))?;
                Ok(match modifier.map(|it| &it.card) {
                    Some(VectorMatchCardinality::ManyToOne(_)) => left,
                    Some(VectorMatchCardinality::OneToMany(_)) => right,
                    _ => on,
                })
            }
        }
    }

    fn call(&mut self, call: &Call) -> Result<Labels, String> {
        let mut labels = Labels::new();
        for argument in &call.args.args {
            labels.extend(self.labels(argument)?);
        }
        match call.func.name {
            "histogram_quantile" if !labels.remove("le") => {
                Err("histogram_quantile without le".into())
            }
            "absent" => match &*call.args.args[0] {
                Expr::VectorSelector(selector) => {
                    let equal = selector
                        .matchers
                        .matchers
                        .iter()
                        .filter(|it| it.op == MatchOp::Equal);
                    Ok(equal.map(|it| it.name.clone()).collect())
                }
                _ => Err("absent() of more than a selector".into()),
            },
            "label_replace" => match &*call.args.args[1] {
                Expr::StringLiteral(label) => {
                    labels.insert(label.val.clone());
                    Ok(labels)
                }
                _ => Err("label_replace with a label that is worked out".into()),
            },
            _ => Ok(labels),
        }
    }
}

fn subset(wanted: &[String], of: &Labels) -> Result<Labels, String> {
    match wanted.iter().find(|label| !of.contains(*label)) {
        Some(label) => Err(format!("there is no label {label} here, only {of:?}")),
        None => Ok(wanted.iter().cloned().collect()),
    }
}

/// A matcher that names a value which never occurs selects nothing, or everything.
fn values_exist(family: &Family, matcher: &Matcher) -> Result<(), String> {
    let known: Vec<&str> = match (
        family.kind,
        family
            .labels
            .iter()
            .find(|label| label.name == matcher.name),
    ) {
        (Kind::Histogram(buckets), None) if matcher.name == "le" => buckets.le().to_vec(),
        (_, Some(label)) if !label.values.is_empty() => label.values.to_vec(),
        _ => return Ok(()),
    };
    let values: Vec<&str> = match &matcher.op {
        MatchOp::Equal | MatchOp::NotEqual => vec![&matcher.value],
        MatchOp::Re(_) | MatchOp::NotRe(_) => matcher.value.split('|').collect(),
    };
    match values.iter().find(|value| !known.contains(value)) {
        Some(value) => Err(format!(
            "{}: {} is never {value}, but one of {known:?}",
            family.name, matcher.name
        )),
        None => Ok(()),
    }
}

impl Reader {
    /// Returns the labels of what a query returns, or what is wrong with it.
    pub(crate) fn read(&mut self, expr: &str) -> Result<Labels, String> {
        parse(expr)
            .and_then(|parsed| self.labels(&parsed))
            .map_err(|error| format!("{expr}\n{error}"))
    }

    /// Returns a reader that knows the recorded series, and has read them.
    pub(crate) fn with_recordings() -> Result<Reader, String> {
        let mut reader = Reader::default();
        for rule in RECORDINGS {
            let labels = reader.read(rule.expr)?;
            let level: Labels = rule
                .name
                .split(':')
                .next()
                .unwrap()
                .split('_')
                .map(str::to_owned)
                .collect();
            if labels != level {
                return Err(format!(
                    "{} promises {level:?} and has {labels:?}",
                    rule.name
                ));
            }
            reader.recorded.insert(rule.name, labels);
        }
        Ok(reader)
    }
}
