//! A child: threads that come and go, and record requests as the module does.

use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use wsgi_telemetry::catalogue::{
    ANSWERED, CODE, INTERPRETER_STATE, Id, METHOD, STOP_REASON, value,
};
use wsgi_telemetry::{
    App, CustomKind, Description, Event, Geometry, Notable, Part, Phase, Role, Segment, Series,
    clock, writer,
};

use crate::board::{APPLICATIONS, Board, THREADS, open_segment};

/// The variable with the parameters of a child: folder, slot, its number in the slot, number of arenas.
const VARIABLE: &str = "WSGI_PROCESS_TEST";

/// Requests that a thread records before the next one takes its place.
const REQUESTS_OF_A_THREAD: u64 = 200;

/// Time for which all threads pause, so that new children find the time to begin.
const PAUSE: Duration = Duration::from_millis(2);

/// The applications' own counter.
pub(crate) const COUNTER: &str = "orders_total";

/// The parameters of one child.
pub(crate) struct Told {
    pub(crate) folder: PathBuf,
    pub(crate) slot: usize,
    pub(crate) number: u64,
    pub(crate) arenas: usize,
}

pub(crate) fn geometry(arenas: usize) -> Geometry {
    Geometry {
        arenas,
        applications: 17,
        series: 16,
    }
}

impl Told {
    /// Starts this program again as that child.
    pub(crate) fn start(&self) -> Child {
        let told = format!(
            "{}:{}:{}:{}",
            self.slot,
            self.number,
            self.arenas,
            self.folder.display()
        );
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_child", "--ignored", "--nocapture"])
            .env(VARIABLE, told)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn read() -> Self {
        let told = std::env::var(VARIABLE).expect("only the other tests start this one");
        let mut parts = told.splitn(4, ':');
        let mut part = || parts.next().unwrap();
        Self {
            slot: part().parse().unwrap(),
            number: part().parse().unwrap(),
            arenas: part().parse().unwrap(),
            folder: part().into(),
        }
    }
}

/// Runs as the child until it is killed or told to end.
pub(crate) fn run() -> ! {
    let told = Told::read();
    let parent = parent_id();
    let board = Board::open(&told.folder);
    let segment = open_segment(&told.folder, geometry(told.arenas));
    writer::start(segment, 0);
    let owner = writer::owner().unwrap();
    let apps =
        APPLICATIONS.map(|label| segment.application_named(label, ["/", "app.wsgi", ""], owner));
    writer::set_role(Role::Ready);
    interpreters_start(&apps);
    let (slot, series) = (told.slot, counter(segment));
    let lanes: Vec<_> = (0..THREADS)
        .map(|lane| {
            thread::spawn(move || {
                while !board.has_stopped() {
                    let life =
                        thread::spawn(move || record(segment, board, apps, series, (slot, lane)));
                    life.join().unwrap();
                    thread::sleep(PAUSE);
                }
            })
        })
        .collect();
    board.arrive(told.slot, told.number);
    loop {
        thread::sleep(Duration::from_millis(1));
        if board.has_stopped() {
            lanes.into_iter().for_each(|lane| lane.join().unwrap());
            end(&apps);
        }
        if board.is_to_end(told.slot, told.number) {
            writer::set_role(Role::Draining);
            // The threads go on until the process ends.
            thread::sleep(Duration::from_millis(50));
            end(&apps);
        }
        if parent_id() != parent {
            std::process::exit(1);
        }
    }
}

fn end(apps: &[App]) -> ! {
    writer::set_role(Role::Draining);
    interpreters_stop(apps);
    std::process::exit(0);
}

fn interpreters_start(apps: &[App]) {
    let process = writer::process().unwrap();
    for &app in apps {
        let block = process.application(app);
        block.add(Id::InterpreterStarts, 0, 1);
        block.change(Id::Interpreters, value(INTERPRETER_STATE, "ready"), 1);
    }
}

fn interpreters_stop(apps: &[App]) {
    let process = writer::process().unwrap();
    for &app in apps {
        let block = process.application(app);
        block.change(Id::Interpreters, value(INTERPRETER_STATE, "ready"), -1);
        block.add(Id::InterpreterStops, value(STOP_REASON, "child_exit"), 1);
    }
}

fn counter(segment: Segment) -> Series {
    let owner = writer::owner().unwrap();
    let description = Description {
        name: String::from(COUNTER),
        kind: CustomKind::Counter,
        labels: Vec::new(),
        help: String::from("Orders."),
    };
    let family = segment.custom_family(&description, owner).unwrap();
    segment
        .custom_series(family, Part::Value, &[], owner)
        .unwrap()
}

/// Runs as a thread that records. All words that it writes for a request hold the same number, so that readers can tell
/// a whole record from one that two threads have written.
fn record(
    segment: Segment,
    board: Board,
    apps: [App; 2],
    series: Series,
    (slot, lane): (usize, usize),
) {
    for request in 0..REQUESTS_OF_A_THREAD {
        if board.has_stopped() {
            return;
        }
        let now = clock::now();
        let which = (request % 3 == 0) as usize;
        let (method, code) = (
            request as usize % METHOD.values.len(),
            request as usize % ANSWERED.values.len(),
        );
        let arena = writer::arena(now).unwrap();
        let url = format!("/{now}");
        let before = arena.begin(now, apps[which], method, url.as_bytes(), url.as_bytes());
        if let Some(phase) = arena.phase_cell() {
            phase.set(Phase::InApplication);
        }
        let block = arena.application(apps[which]);
        block.observe(Id::RequestDuration, code, now % 2_000_000);
        block.observe(Id::ApplicationDuration, 0, now % 1_000_000);
        block.add(Id::ResponseBody, 0, 10);
        writer::current().unwrap().series_add(series, 1.0);
        block.finish_request(method * CODE.values.len() + code + 1);
        if request % 16 == 0 {
            let event = Event {
                at: 0,
                why: Notable::Slow,
                app: apps[which],
                method,
                status: 200,
                pid: std::process::id(),
                total: now,
                application: now,
                gil_wait: now,
                input: now,
                output: now,
                url: String::new(),
            };
            segment.note(&event, url.as_bytes());
        }
        arena.end(before);
        board.acknowledge(slot, lane, which);
    }
}
