//! The catalogue of all families: one table that drives registration, exposition, documentation, dashboards and tests.
//!
//! Names follow Prometheus's naming guide: base units, `_total` for counters, one prefix. Label values are closed
//! lists; only `app` and `process_group` are open, and their values come from the configuration.

/// Label value of everything that found no room: of `app`, and of all labels of the applications' own metrics.
pub const OTHER: &str = "_other";

/// The label of what processes of a group have counted. Series of httpd's children do not have it.
pub const PROCESS_GROUP: &str = "process_group";

/// Type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A counter: it only grows.
    Counter,
    /// A gauge: it may go up and down; added up over living children.
    Gauge,
    /// A histogram with these upper bounds.
    Histogram(Buckets),
}

/// Unit of a cell, which decides how it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Time: nanoseconds in the cells, seconds in the exposition.
    Seconds,
    /// Bytes.
    Bytes,
}

/// Where the numbers of a family come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Cells in the block that each application has in each arena; the family has the label `app`.
    Application,
    /// Cells that each arena has once.
    Process,
    /// Cells in the header of the segment.
    Header,
    /// Derived by the reader of the segment when it is asked for.
    Derived,
}

/// A label with a closed list of values; an empty list means that the values come from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Name of the label.
    pub name: &'static str,
    /// Values, in the order of the cells.
    pub values: &'static [&'static str],
}

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Identity in the code.
    pub id: Id,
    /// Name in the exposition.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Unit of a cell.
    pub unit: Unit,
    /// Where the numbers come from.
    pub source: Source,
    /// Labels without `app`. The cells of all combinations follow each other; the last label changes fastest.
    pub labels: &'static [Label],
    /// Whether combinations that never occurred are left out.
    pub sparse: bool,
    /// Text of the `HELP` line.
    pub help: &'static str,
}

impl Family {
    /// Returns whether the family has the label `app`.
    pub const fn has_app(&self) -> bool {
        match self.source {
            Source::Application => true,
            Source::Derived => matches!(
                self.id,
                Id::RequestsInFlight
                    | Id::OldestRequestAge
                    | Id::InterpreterOldestStart
                    | Id::InterpreterNewestStart
                    | Id::ApplicationInfo
            ),
            Source::Process | Source::Header => false,
        }
    }

    /// Returns whether process groups have series of their own.
    pub const fn has_process_group(&self) -> bool {
        match self.source {
            Source::Process | Source::Header => true,
            Source::Derived => matches!(
                self.id,
                Id::Children | Id::ChildrenMemory | Id::ChildMemoryMax | Id::PythonInfo
            ),
            Source::Application => false,
        }
    }

    /// Returns the number of combinations of label values.
    pub const fn series(&self) -> usize {
        let mut count = 1;
        let mut at = 0;
        while at < self.labels.len() {
            if !self.labels[at].values.is_empty() {
                count *= self.labels[at].values.len();
            }
            at += 1;
        }
        count
    }

    /// Returns the number of cells of one combination.
    pub const fn cells_of_series(&self) -> usize {
        match self.kind {
            Kind::Histogram(buckets) => buckets.cells(),
            Kind::Counter | Kind::Gauge => 1,
        }
    }

    /// Returns the label values of combination `at`.
    pub fn values(&self, mut at: usize) -> Vec<&'static str> {
        let mut values = Vec::with_capacity(self.labels.len());
        for label in self.labels.iter().rev() {
            values.push(label.values[at % label.values.len()]);
            at /= label.values.len();
        }
        values.reverse();
        values
    }
}

/// A list of upper bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buckets {
    /// Durations of requests and of holding the GIL.
    Latency,
    /// Waiting in a queue.
    Wait,
    /// Waiting for the GIL: bounds around multiples of the switch interval (5 ms).
    Gil,
    /// Loading an application.
    Load,
    /// Pauses of the garbage collector.
    Gc,
}

impl Buckets {
    /// Returns the upper bounds in nanoseconds, ascending; one more bucket is above the last.
    pub const fn bounds(self) -> &'static [u64] {
        match self {
            Buckets::Latency => &LATENCY.0,
            Buckets::Wait => &WAIT.0,
            Buckets::Gil => &GIL.0,
            Buckets::Load => &LOAD.0,
            Buckets::Gc => &GC.0,
        }
    }

    /// Returns the bounds as Prometheus 3 and OpenMetrics write them (`normalizeFloatsInLabelValues`), so that a series
    /// keeps its name over an upgrade of Prometheus.
    pub const fn le(self) -> &'static [&'static str] {
        match self {
            Buckets::Latency => &LATENCY.1,
            Buckets::Wait => &WAIT.1,
            Buckets::Gil => &GIL.1,
            Buckets::Load => &LOAD.1,
            Buckets::Gc => &GC.1,
        }
    }

    /// Returns the number of cells of one histogram: its buckets, the one above the last bound, the sum.
    pub const fn cells(self) -> usize {
        self.bounds().len() + 2
    }

    /// Returns the bucket of an observation (`le` is inclusive). Searches from the first bound on, since short
    /// observations are the most frequent.
    #[inline]
    pub fn index(self, nanoseconds: u64) -> usize {
        let bounds = self.bounds();
        let found = bounds.iter().position(|&bound| nanoseconds <= bound);
        found.unwrap_or(bounds.len())
    }
}

/// Defines bounds in nanoseconds from microseconds, and as text.
macro_rules! bounds {
    ($name:ident, $count:literal: $($microseconds:literal $le:literal),+ $(,)?) => {
        const $name: ([u64; $count], [&str; $count]) = ([$($microseconds * 1_000),+], [$($le),+]);
    };
}

bounds!(LATENCY, 20: 500 "0.0005", 1_000 "0.001", 2_500 "0.0025", 5_000 "0.005", 10_000 "0.01", 25_000 "0.025",
    50_000 "0.05", 75_000 "0.075", 100_000 "0.1", 250_000 "0.25", 500_000 "0.5", 750_000 "0.75", 1_000_000 "1.0",
    2_500_000 "2.5", 5_000_000 "5.0", 7_500_000 "7.5", 10_000_000 "10.0", 30_000_000 "30.0", 60_000_000 "60.0",
    120_000_000 "120.0");
bounds!(WAIT, 14: 10 "1e-05", 50 "5e-05", 100 "0.0001", 500 "0.0005", 1_000 "0.001", 5_000 "0.005", 10_000 "0.01",
    25_000 "0.025", 50_000 "0.05", 100_000 "0.1", 250_000 "0.25", 500_000 "0.5", 1_000_000 "1.0", 5_000_000 "5.0");
bounds!(GIL, 14: 10 "1e-05", 50 "5e-05", 100 "0.0001", 500 "0.0005", 1_000 "0.001", 4_000 "0.004", 9_000 "0.009",
    14_000 "0.014", 19_000 "0.019", 50_000 "0.05", 100_000 "0.1", 250_000 "0.25", 1_000_000 "1.0",
    5_000_000 "5.0");
bounds!(LOAD, 11: 100_000 "0.1", 250_000 "0.25", 500_000 "0.5", 1_000_000 "1.0", 2_500_000 "2.5", 5_000_000 "5.0",
    10_000_000 "10.0", 30_000_000 "30.0", 60_000_000 "60.0", 120_000_000 "120.0", 300_000_000 "300.0");
bounds!(GC, 10: 100 "0.0001", 500 "0.0005", 1_000 "0.001", 5_000 "0.005", 10_000 "0.01", 50_000 "0.05",
    100_000 "0.1", 500_000 "0.5", 1_000_000 "1.0", 5_000_000 "5.0");

macro_rules! label {
    ($name:ident = $text:literal: $($value:literal),* $(,)?) => {
        /// The label of this name and its values.
        pub const $name: Label = Label { name: $text, values: &[$($value),*] };
    };
}

label!(METHOD = "method": "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "_OTHER");
label!(CODE = "code": "1xx", "2xx", "3xx", "4xx", "5xx", "none");
label!(ANSWERED = "code": "2xx", "3xx", "4xx", "5xx");
label!(EXCEPTION_PHASE = "phase": "call", "iterate", "close");
label!(ABORT_PHASE = "phase": "queue", "read", "write");
label!(REJECTION = "reason": "queue_full", "queue_timeout", "draining", "not_loaded", "body_too_large");
label!(TIMEOUT_STAGE = "stage": "application", "read", "write");
label!(STREAM = "stream": "errors", "stderr", "stdout");
label!(INTERPRETER_STATE = "state": "starting", "ready", "draining", "failed");
label!(STOP_REASON = "reason": "reload", "child_exit", "error");
label!(RESULT = "result": "ok", "error");
label!(TRIGGER = "trigger": "script_changed", "api");
label!(GENERATION = "generation": "0", "1", "2");
label!(CHILD_STATE = "state": "starting", "ready", "draining");
label!(EXIT = "how": "clean", "killed");
label!(RECYCLE_REASON = "reason": "source_changed", "touched", "api", "max_requests", "memory", "age", "request_timeout", "deadlock", "startup_timeout", "cpu_time", "descriptors");
label!(CPU_MODE = "mode": "user", "system");
label!(WORKER_STATE = "state": "idle", "starting", "reading", "writing", "keepalive", "closing", "logging", "graceful",
    "open_slot");
label!(CONNECTION_STATE = "state": "total", "keepalive", "closing", "writing");
label!(ARENA_STATE = "state": "used", "free");
label!(OVERFLOW = "kind": "application", "series", "arena");
label!(SEGMENT_SIZE = "kind": "mapped", "resident");

macro_rules! open_labels {
    ($($name:ident: $($label:literal),+;)+) => {
        $(const $name: &[Label] = &[$(Label { name: $label, values: &[] }),+];)+
    };
}

open_labels! {
    APPLICATION_INFO: "mount", "script", "interpreter";
    PYTHON_INFO: "version", "implementation", "gil";
    MPM_INFO: "mpm", "threaded", "forked";
    BUILD_INFO: "version", "revision", "rustc", "httpd";
}

macro_rules! families {
    ($($id:ident $name:literal $kind:expr, $unit:ident, $source:ident $labels:expr $(, $sparse:ident)? => $help:literal;)+) => {
        /// The families, by their names in the code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Id { $(#[doc = $help] $id),+ }

        /// All families, in the order of the exposition.
        pub const FAMILIES: &[Family] = &[$(Family {
            id: Id::$id,
            name: $name,
            kind: $kind,
            unit: Unit::$unit,
            source: Source::$source,
            labels: $labels,
            sparse: families!(@sparse $($sparse)?),
            help: $help,
        }),+];
    };
    (@sparse sparse) => { true };
    (@sparse) => { false };
}

use Buckets as B;
use Kind::{Counter, Gauge, Histogram};

families! {
    // Requests.
    Requests "wsgi_requests_total" Counter, Count, Application &[METHOD, CODE], sparse =>
        "Requests finished by the module, by method and status class.";
    RequestDuration "wsgi_request_duration_seconds" Histogram(B::Latency), Seconds, Application &[ANSWERED], sparse =>
        "Time from entering the handler until the response was handed to Apache.";
    ApplicationDuration "wsgi_application_duration_seconds" Histogram(B::Latency), Seconds, Application &[] =>
        "Time inside the application: callable, iteration and close().";
    TimeToFirstByte "wsgi_time_to_first_byte_seconds" Histogram(B::Latency), Seconds, Application &[] =>
        "Time from entering the handler until the first body byte was passed to Apache.";
    InputRead "wsgi_input_read_seconds_total" Counter, Seconds, Application &[] =>
        "Time blocked reading request bodies.";
    OutputWrite "wsgi_output_write_seconds_total" Counter, Seconds, Application &[] =>
        "Time blocked writing responses.";
    RequestBody "wsgi_request_body_bytes_total" Counter, Bytes, Application &[] =>
        "Request body bytes handed to the application.";
    ResponseBody "wsgi_response_body_bytes_total" Counter, Bytes, Application &[] =>
        "Response body bytes produced by the application.";
    Exceptions "wsgi_exceptions_total" Counter, Count, Application &[EXCEPTION_PHASE] =>
        "Uncaught exceptions raised by the application, by phase.";
    ProtocolErrors "wsgi_protocol_errors_total" Counter, Count, Application &[] =>
        "Responses that broke the WSGI protocol.";
    ClientAborts "wsgi_client_aborts_total" Counter, Count, Application &[ABORT_PHASE] =>
        "Requests cut short by the client, by phase.";
    Rejected "wsgi_requests_rejected_total" Counter, Count, Application &[REJECTION] =>
        "Requests refused before the application was called.";
    Timeouts "wsgi_request_timeouts_total" Counter, Count, Application &[TIMEOUT_STAGE] =>
        "Requests that exceeded a configured time limit, by stage.";
    SlowRequests "wsgi_slow_requests_total" Counter, Count, Application &[] =>
        "Requests slower than the configured slow-request threshold.";
    LogLines "wsgi_log_lines_total" Counter, Count, Application &[STREAM] =>
        "Lines the application wrote to its log streams.";

    // Concurrency and the GIL.
    RequestsInFlight "wsgi_requests_in_flight" Gauge, Count, Derived &[] =>
        "Requests inside the module now.";
    OldestRequestAge "wsgi_oldest_request_age_seconds" Gauge, Seconds, Derived &[] =>
        "Age of the oldest request still running.";
    QueueWait "wsgi_queue_wait_seconds" Histogram(B::Wait), Seconds, Application &[] =>
        "Time a request waited in line for a place inside Python.";
    GilWait "wsgi_gil_wait_seconds" Histogram(B::Gil), Seconds, Application &[] =>
        "Time one GIL acquisition by the module waited.";
    GilHeld "wsgi_gil_held_seconds" Histogram(B::Latency), Seconds, Application &[] =>
        "Time from one attach to the following detach; an upper bound of the time the GIL was held.";

    // Interpreters and applications.
    Interpreters "wsgi_interpreters" Gauge, Count, Application &[INTERPRETER_STATE] =>
        "Interpreters holding the application, by state.";
    InterpreterStarts "wsgi_interpreter_starts_total" Counter, Count, Application &[] =>
        "Interpreters started.";
    InterpreterStops "wsgi_interpreter_stops_total" Counter, Count, Application &[STOP_REASON] =>
        "Interpreters stopped, by reason.";
    InterpreterOldestStart "wsgi_interpreter_oldest_start_timestamp_seconds" Gauge, Seconds, Derived &[] =>
        "Unix time at which the oldest live interpreter started.";
    InterpreterNewestStart "wsgi_interpreter_newest_start_timestamp_seconds" Gauge, Seconds, Derived &[] =>
        "Unix time at which the newest live interpreter started.";
    ApplicationLoad "wsgi_application_load_seconds" Histogram(B::Load), Seconds, Application &[] =>
        "Duration of one import of the application script.";
    ApplicationLoads "wsgi_application_loads_total" Counter, Count, Application &[RESULT] =>
        "Imports of the application script, by result.";
    ApplicationReloads "wsgi_application_reloads_total" Counter, Count, Application &[TRIGGER] =>
        "Reloads, by what caused them.";
    ApplicationInfo "wsgi_application_info" Gauge, Count, Derived APPLICATION_INFO =>
        "Constant 1 with the configuration of the application.";

    // The Python runtime.
    PythonInfo "wsgi_python_info" Gauge, Count, Derived PYTHON_INFO =>
        "Constant 1 with the embedded Python.";
    GcPause "wsgi_python_gc_pause_seconds" Histogram(B::Gc), Seconds, Application &[GENERATION] =>
        "Duration of one cyclic garbage collection.";
    GcCollected "wsgi_python_gc_collected_objects_total" Counter, Count, Application &[GENERATION] =>
        "Objects freed by the cyclic collector.";
    GcUncollectable "wsgi_python_gc_uncollectable_objects_total" Counter, Count, Application &[GENERATION] =>
        "Objects the cyclic collector found but could not free.";
    GcPending "wsgi_python_gc_pending_objects" Gauge, Count, Application &[GENERATION] =>
        "Progress of each generation toward its threshold, summed over live interpreters.";
    AllocatedBlocks "wsgi_python_allocated_blocks" Gauge, Count, Application &[] =>
        "Memory blocks held by the object allocator.";
    PythonThreads "wsgi_python_threads" Gauge, Count, Application &[] =>
        "Threads known to the threading module.";

    // Children and the server.
    Children "wsgi_children" Gauge, Count, Derived &[CHILD_STATE] =>
        "Live Apache children that hold a metrics slot, by state.";
    ChildrenStarted "wsgi_children_started_total" Counter, Count, Header &[] =>
        "Apache children started.";
    ChildrenExited "wsgi_children_exited_total" Counter, Count, Header &[EXIT] =>
        "Apache children that ended, by how.";
    ChildrenRecycles "wsgi_children_recycles_total" Counter, Count, Header &[RECYCLE_REASON] =>
        "Children the module asked to exit, by reason.";
    ChildrenCpu "wsgi_children_cpu_seconds_total" Counter, Seconds, Process &[CPU_MODE] =>
        "CPU time of all children, dead ones included.";
    ChildrenMemory "wsgi_children_resident_memory_bytes" Gauge, Bytes, Derived &[] =>
        "Resident memory of all live children; shared pages count once per child.";
    ChildMemoryMax "wsgi_child_resident_memory_max_bytes" Gauge, Bytes, Derived &[] =>
        "Resident memory of the largest live child.";
    MpmWorkers "wsgi_mpm_workers" Gauge, Count, Derived &[WORKER_STATE] =>
        "Apache workers by scoreboard state.";
    MpmConnections "wsgi_mpm_connections" Gauge, Count, Derived &[CONNECTION_STATE] =>
        "Connections known to an asynchronous MPM, by state.";
    MpmWorkersLimit "wsgi_mpm_workers_limit" Gauge, Count, Derived &[] =>
        "MaxRequestWorkers.";
    MpmChildrenLimit "wsgi_mpm_children_limit" Gauge, Count, Derived &[] =>
        "ServerLimit.";
    MpmThreadsPerChild "wsgi_mpm_threads_per_child" Gauge, Count, Derived &[] =>
        "ThreadsPerChild, 1 for prefork.";
    MpmInfo "wsgi_mpm_info" Gauge, Count, Derived MPM_INFO =>
        "Constant 1 with the MPM in use.";
    BuildInfo "wsgi_build_info" Gauge, Count, Derived BUILD_INFO =>
        "Constant 1 with what the module was built from.";
    ServerStart "wsgi_server_start_timestamp_seconds" Gauge, Seconds, Derived &[] =>
        "Unix time at which the Apache parent created the metrics segment.";
    ConfigGeneration "wsgi_config_generation" Gauge, Count, Derived &[] =>
        "Configuration generation now served.";
    ConfigLoad "wsgi_config_load_timestamp_seconds" Gauge, Seconds, Derived &[] =>
        "Unix time of the last configuration load.";

    // The metrics themselves.
    MetricsArenas "wsgi_metrics_arenas" Gauge, Count, Derived &[ARENA_STATE] =>
        "Writer arenas in the shared segment.";
    MetricsSeries "wsgi_metrics_series" Gauge, Count, Derived &[] =>
        "Series in the directory of the applications' own metrics.";
    MetricsSeriesLimit "wsgi_metrics_series_limit" Gauge, Count, Derived &[] =>
        "Most series the directory can hold.";
    MetricsOverflows "wsgi_metrics_overflows_total" Counter, Count, Header &[OVERFLOW] =>
        "Registrations that were folded into the overflow entry.";
    MetricsSegment "wsgi_metrics_segment_bytes" Gauge, Bytes, Derived &[SEGMENT_SIZE] =>
        "Size of the shared segment.";
    MetricsLastScrape "wsgi_metrics_last_scrape_seconds" Gauge, Seconds, Derived &[] =>
        "Time the previous scrape took.";
}

impl Id {
    /// Returns the name of the family, for the macros of `metrics`.
    pub const fn name(self) -> &'static str {
        self.family().name
    }

    /// Returns the family.
    pub const fn family(self) -> &'static Family {
        &FAMILIES[self as usize]
    }
}

/// Offset of the first cell of each family within its source, in cells.
const OFFSETS: [u32; FAMILIES.len()] = {
    let mut offsets = [0; FAMILIES.len()];
    let mut next = [0u32; 3];
    let mut at = 0;
    while at < FAMILIES.len() {
        let family = &FAMILIES[at];
        let source = match family.source {
            Source::Application => 0,
            Source::Process => 1,
            Source::Header => 2,
            Source::Derived => {
                at += 1;
                continue;
            }
        };
        offsets[at] = next[source];
        next[source] += (family.series() * family.cells_of_series()) as u32;
        at += 1;
    }
    offsets
};

/// Returns the number of cells of all families of a source.
const fn cells_of(source: Source) -> usize {
    let mut cells = 0;
    let mut at = 0;
    while at < FAMILIES.len() {
        let family = &FAMILIES[at];
        if family.source as u8 == source as u8 {
            cells += family.series() * family.cells_of_series();
        }
        at += 1;
    }
    cells
}

/// Cells of one application in one arena.
pub const APPLICATION_CELLS: usize = cells_of(Source::Application);
/// Cells that each arena has once.
pub const PROCESS_CELLS: usize = cells_of(Source::Process);
/// Cells in the header.
pub const HEADER_CELLS: usize = cells_of(Source::Header);

/// Returns the first cell of combination `series` of a family, counted from the beginning of its source.
pub const fn cell(id: Id, series: usize) -> usize {
    OFFSETS[id as usize] as usize + series * id.family().cells_of_series()
}

/// Returns the number of a label's value; in a family with only this label, that is the number of the series.
///
/// # Panics
/// Returns the number of a request method in [`METHOD`].
pub fn method(name: &[u8]) -> usize {
    let mut known = METHOD.values.iter();
    let found = known.position(|known| known.as_bytes() == name);
    found.unwrap_or(METHOD.values.len() - 1)
}

/// If there is no such value. In constants, compilation fails.
pub const fn value(label: Label, text: &str) -> usize {
    let mut at = 0;
    while at < label.values.len() {
        let (a, b) = (label.values[at].as_bytes(), text.as_bytes());
        let mut same = a.len() == b.len();
        let mut byte = 0;
        while same && byte < a.len() {
            same = a[byte] == b[byte];
            byte += 1;
        }
        if same {
            return at;
        }
        at += 1;
    }
    panic!("the label has no such value")
}

/// Returns the family with this name.
pub fn by_name(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.name == name)
}

/// Hash of the cells. It changes whenever a cell moves or gets another meaning.
pub const LAYOUT_HASH: u64 = {
    let mut hash = fnv(0xcbf2_9ce4_8422_2325, env!("CARGO_PKG_VERSION").as_bytes());
    let mut at = 0;
    while at < FAMILIES.len() {
        let family = &FAMILIES[at];
        hash = fnv(hash, family.name.as_bytes());
        let mut label = 0;
        while label < family.labels.len() {
            hash = fnv(hash, family.labels[label].name.as_bytes());
            let mut value = 0;
            while value < family.labels[label].values.len() {
                hash = fnv(hash, family.labels[label].values[value].as_bytes());
                value += 1;
            }
            label += 1;
        }
        if let Kind::Histogram(buckets) = family.kind {
            let bounds = buckets.bounds();
            let mut bound = 0;
            while bound < bounds.len() {
                hash = fnv(hash, &bounds[bound].to_le_bytes());
                bound += 1;
            }
        }
        at += 1;
    }
    hash
};

/// FNV-1a with a separator byte after each item, so that different lists have different inputs.
pub(crate) const fn fnv(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    (hash ^ 0xff).wrapping_mul(0x0100_0000_01b3)
}
