//! The cost of recording one request, in addition to reading the clock, and of answering one scrape. It is measured in
//! this process, on a segment of anonymous memory.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;
use wsgi_telemetry::catalogue::Id;
use wsgi_telemetry::{App, Arena, Format, Geometry, Owner, Role, Segment, memory, render};

use crate::print::table::{Spread, Table};

/// The results of the measurement.
#[derive(Serialize)]
pub(crate) struct Metrics {
    /// Nanoseconds of each way of recording; the first one is the reference.
    pub(crate) recording: Vec<(String, Vec<f64>)>,
    pub(crate) scrapes: Vec<Scrape>,
}

/// The scrapes of a segment of one size.
#[derive(Serialize)]
pub(crate) struct Scrape {
    pub(crate) children: u32,
    pub(crate) whole_ms: Vec<f64>,
    pub(crate) reading_ms: Vec<f64>,
    pub(crate) bytes: usize,
}

/// The number of applications in the segment.
const APPLICATIONS: u16 = 10;
/// The requests of one run.
const REQUESTS: u64 = 200_000;

pub(crate) fn measure(rounds: usize) -> Result<Metrics> {
    let segment = segment(1)?;
    let own = segment.arena_of(1);
    let shared = segment.spill();
    let mut recording = vec![
        ("a plain counter".to_owned(), Vec::new()),
        ("a request, arena of the thread".to_owned(), Vec::new()),
        ("a request, spill arena".to_owned(), Vec::new()),
    ];
    // The runs alternate, so that a disturbance affects all of them.
    for _ in 0..rounds {
        recording[0].1.push(per_request(|at| {
            own.application(App::new(1)).add(Id::RequestBody, 0, at);
        }));
        recording[1].1.push(per_request(|at| record(own, at)));
        recording[2].1.push(per_request(|at| record(shared, at)));
    }
    let sizes = [16, 64, 400];
    let scrapes = sizes.map(|children| scrape(children, rounds));
    Ok(Metrics {
        recording,
        scrapes: scrapes.into_iter().collect::<Result<_>>()?,
    })
}

fn per_request(mut record: impl FnMut(u64)) -> f64 {
    let begin = Instant::now();
    for at in 0..REQUESTS {
        record(black_box(at));
    }
    begin.elapsed().as_nanos() as f64 / REQUESTS as f64
}

/// Records what the module and the engine record for a hello-world request.
fn record(arena: Arena, at: u64) {
    let app = App::new((at % u64::from(APPLICATIONS)) as u16 + 1);
    // These durations fall into many buckets.
    let duration = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 37;
    let before = arena.begin(at + 1, app, 0, b"/a/page/of/the/site", b"");
    let block = arena.application(app);
    block.observe(Id::GilWait, 0, duration >> 10);
    block.observe(Id::GilHeld, 0, duration);
    block.observe(Id::ApplicationDuration, 0, duration);
    block.observe(Id::QueueWait, 0, duration >> 10);
    block.observe(Id::TimeToFirstByte, 0, duration);
    block.add(Id::OutputWrite, 0, duration);
    block.add(Id::ResponseBody, 0, 12);
    block.observe(Id::RequestDuration, 0, duration);
    block.finish_request(1);
    arena.end(before);
}

/// Returns the segment of `children` prefork children, each with an arena for itself and one for its thread. This
/// process plays all of them.
fn segment(children: u32) -> Result<Segment> {
    let geometry = Geometry {
        arenas: 1 + 2 * children as usize,
        applications: usize::from(APPLICATIONS) + 1,
        series: 64,
    };
    let segment = Segment::create(
        memory::anonymous(geometry.words())?,
        geometry,
        std::process::id(),
    )?;
    let owner = Owner::of_this_process(0);
    for app in 1..=APPLICATIONS {
        segment.application_named(&format!("/app{app}"), ["", "", ""], owner);
    }
    for child in 0..children {
        for (thread, role) in [(2 * child, Role::Ready), (2 * child + 1, Role::Thread)] {
            segment
                .claim(owner, thread, role)
                .context("an arena is free")?;
        }
    }
    Ok(segment)
}

fn scrape(children: u32, rounds: usize) -> Result<Scrape> {
    let segment = segment(children)?;
    for arena in 1..=2 * children {
        let arena = segment.arena_of(arena);
        if arena.is_of_child() {
            for app in 1..=APPLICATIONS {
                arena
                    .gauges(App::new(app))
                    .set(Id::AllocatedBlocks, 0, 1_000);
            }
        } else {
            for at in 0..200 {
                record(arena, at * 7_919);
            }
        }
    }
    let mut scrape = Scrape {
        children,
        whole_ms: Vec::new(),
        reading_ms: Vec::new(),
        bytes: 0,
    };
    for _ in 0..rounds {
        let begin = Instant::now();
        segment.measure_children(100);
        let snapshot = segment.snapshot();
        let read = begin.elapsed();
        let mut text = String::new();
        render(&snapshot, Format::Text, &mut text);
        scrape.whole_ms.push(begin.elapsed().as_secs_f64() * 1000.0);
        scrape.reading_ms.push(read.as_secs_f64() * 1000.0);
        scrape.bytes = black_box(text).len();
    }
    Ok(scrape)
}

/// Prints the cost of recording and of scraping.
pub(crate) fn print(measured: &Metrics) {
    println!(
        "Recording one request: its nine histogram observations and counters, without the clock"
    );
    let mut table = Table::new(&["", "ns", "min – max", "of a plain counter"]);
    let plain = Spread::of(measured.recording[0].1.iter().copied());
    for (name, runs) in &measured.recording {
        let Some(spread) = Spread::of(runs.iter().copied()) else {
            continue;
        };
        table.row(vec![
            name.clone(),
            format!("{:.1}", spread.median),
            format!("{:.1} – {:.1}", spread.least, spread.most),
            plain.as_ref().map_or("–".to_owned(), |plain| {
                format!("{:.0}×", spread.median / plain.median)
            }),
        ]);
    }
    println!("{table}");
    println!(
        "A scrape of prefork children: reading the two arenas and the memory of each, and writing the text; 10 applications"
    );
    let mut table = Table::new(&["children", "ms", "min – max", "reading ms", "text kB"]);
    for scrape in &measured.scrapes {
        let (Some(whole), Some(reading)) = (
            Spread::of(scrape.whole_ms.iter().copied()),
            Spread::of(scrape.reading_ms.iter().copied()),
        ) else {
            continue;
        };
        table.row(vec![
            scrape.children.to_string(),
            format!("{:.2}", whole.median),
            format!("{:.2} – {:.2}", whole.least, whole.most),
            format!("{:.2}", reading.median),
            format!("{:.0}", scrape.bytes as f64 / 1000.0),
        ]);
    }
    println!("{table}");
}
