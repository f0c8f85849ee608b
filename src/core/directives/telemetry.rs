//! Directives for metrics and telemetry [M-1], including those that only mod_wsgi_rs has.

use super::arguments::{ON_OFF, OURS, on_off, one, option, seconds, unknown_option};
use super::directive::{Directive, Effect, Target};
use crate::config::conf_words::Words;
use crate::config::telemetry::MetricsListen;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive {
        name: "WSGIServerMetrics",
        help: "On: mod_wsgi.server_metrics() returns httpd's scoreboard.",
        example: "WSGIServerMetrics On",
        effect: Effect::Later(
            "mod_wsgi.server_metrics() returns None; it will return httpd's scoreboard",
        ),
        ..ON_OFF
    },
    Directive {
        name: "WSGITelemetryService",
        syntax: "unix:/path [interval=seconds]",
        default: "",
        help: "Sends metrics to a service on a Unix socket.",
        example: "WSGITelemetryService unix:/run/telemetry.sock interval=5",
        effect: Effect::Later("nothing is sent; it will send metrics to the socket"),
        parse: telemetry_service,
        ..ON_OFF
    },
    Directive {
        name: "WSGISlowRequests",
        syntax: "seconds",
        default: "0",
        help: "Sets after how many seconds a request counts as slow; 0 for never.",
        example: "WSGISlowRequests 2.5",
        parse: slow_requests,
        ..ON_OFF
    },
    Directive {
        name: "WSGITelemetryOptions",
        syntax: "[+|-]CaptureUserAgent|None|All ...",
        default: "None",
        help: "Sets what the telemetry service gets besides numbers.",
        example: "WSGITelemetryOptions +CaptureUserAgent",
        effect: Effect::Later(
            "nothing is sent; it will add the User-Agent to records of slow requests",
        ),
        parse: telemetry_options,
        ..ON_OFF
    },
    Directive {
        name: "WSGIMetrics",
        default: "On",
        help: "Off: nothing is measured, and the handlers wsgi-metrics and wsgi-status answer 404.",
        example: "WSGIMetrics Off",
        difference: OURS,
        parse: |args, target| {
            target.server()?.telemetry.metrics = Some(on_off(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIMetricsListen",
        syntax: "address:port|unix:/path",
        default: "",
        help: "Starts a separate process that answers /metrics and /wsgi-status at this address, even while all workers are busy.",
        example: "WSGIMetricsListen 127.0.0.1:9117",
        difference: OURS,
        parse: |args, target| {
            target.server()?.telemetry.listen = Some(MetricsListen::parse(&one(args)?)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIMetricsSeries",
        syntax: "number",
        default: "1024",
        help: "Sets how many series the applications' own metrics may have, from 64 to 65536; read when httpd starts.",
        example: "WSGIMetricsSeries 4096",
        difference: OURS,
        parse: metrics_series,
        ..ON_OFF
    },
    Directive {
        name: "WSGIPrometheusClient",
        help: "On: the metrics of applications that use the package prometheus_client are added up over all children.",
        example: "WSGIPrometheusClient On",
        difference: OURS,
        parse: |args, target| {
            target.server()?.telemetry.prometheus_client = on_off(args)?;
            Ok(())
        },
        ..ON_OFF
    },
];

fn slow_requests(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let seconds = seconds(args, "a non-negative number", |number| number >= 0.0)?;
    // The cast saturates: a number beyond the range of an integer is longer than any request.
    target.server()?.telemetry.slow_requests = (seconds * 1e9) as u64;
    Ok(())
}

fn metrics_series(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let word = one(args)?;
    let number = word
        .parse()
        .ok()
        .filter(|number| (64..=65_536).contains(number));
    let number = number.ok_or_else(|| format!("'{word}' is not an integer from 64 to 65536"))?;
    target.server()?.telemetry.series = Some(number);
    Ok(())
}

fn telemetry_service(args: &str, _: &mut Target<'_>) -> Result<(), String> {
    let mut words = Words::new(args);
    let service = words
        .next()
        .ok_or("the service is missing; write unix:/path")?;
    if !service.starts_with("unix:/") {
        return Err(format!("'{service}' does not begin with unix:/"));
    }
    if words.is_empty() {
        return Ok(());
    }
    let (name, value) = option(&mut words)?;
    if name != "interval" {
        return Err(unknown_option(name, "interval="));
    }
    if !words.is_empty() {
        return Err(format!("'{}' is one argument too many", words.rest()));
    }
    match value.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.5 => Ok(()),
        _ => Err(format!(
            "interval: '{value}' is not a number of seconds from 0.5"
        )),
    }
}

/// Checks the options as httpd does for `Options`: either all have a sign and modify, or none has one and they replace.
fn telemetry_options(args: &str, _: &mut Target<'_>) -> Result<(), String> {
    let mut signed = None;
    for word in Words::new(args) {
        let (sign, name) = match word.strip_prefix(['+', '-']) {
            Some(name) => (true, name),
            None => (false, word.as_str()),
        };
        match name.to_ascii_lowercase().as_str() {
            "captureuseragent" => {}
            "none" | "all" if !sign => {}
            "none" | "all" => return Err(format!("'{word}': {name} takes no sign")),
            "" => return Err(format!("'{word}' lacks the name of an option")),
            _ => {
                return Err(format!(
                    "'{name}' is not an option; permitted are CaptureUserAgent, None and All"
                ));
            }
        }
        if *signed.get_or_insert(sign) != sign {
            return Err(format!(
                "'{word}': either all options have a + or -, or none has"
            ));
        }
    }
    signed
        .map(drop)
        .ok_or_else(|| "takes at least one argument".into())
}
