//! A segment in a file, with one application, one child and one thread: the test's own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use tempfile::TempDir;
use wsgi_telemetry::catalogue::{ANSWERED, CODE, Id, value};
use wsgi_telemetry::{App, Arena, Geometry, Owner, Phase, Role, Segment, clock, map};

/// Removed with it.
pub(crate) struct Server {
    _folder: TempDir,
    path: PathBuf,
    segment: Segment,
    thread: Arena,
    app: App,
}

impl Server {
    /// One that process `parent` is said to have made.
    pub(crate) fn new(parent: u32) -> Self {
        Self::with(parent, Geometry::new(1, 1, 1, 4))
    }

    /// One that measures nothing.
    pub(crate) fn unmeasured() -> Self {
        Self::with(std::process::id(), Geometry::of_board(4))
    }

    fn with(parent: u32, geometry: Geometry) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mod_wsgi_rs.segment");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .expect("a file");
        file.set_len(geometry.bytes() as u64).expect("its length");
        let cells = map::file(&file, geometry.words(), true).expect("mapped");
        let segment = Segment::create(cells, geometry, parent).expect("a segment");
        segment.set_limits(1, 1, 1, false, true);
        let owner = Owner::of_this_process(0);
        segment.claim(owner, 0, Role::Ready).expect("an arena");
        let thread = segment.claim(owner, 1, Role::Thread).expect("an arena");
        let app = segment.application_named("/shop", ["/shop", "/srv/shop.wsgi", ""], owner);
        Self {
            _folder: folder,
            path,
            segment,
            thread: segment.arena_of(thread),
            app,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn segment(&self) -> Segment {
        self.segment
    }

    pub(crate) fn cells(&self) -> &'static [AtomicU64] {
        self.segment.cells()
    }

    /// So many requests have ended.
    pub(crate) fn requests(&self, count: usize, code: &str) {
        let block = self.thread.application(self.app);
        for _ in 0..count {
            block.observe(Id::RequestDuration, value(ANSWERED, code), 12_000_000);
            block.finish_request(value(CODE, code));
        }
    }

    /// A request runs since `age` seconds.
    pub(crate) fn run(&self, url: &str, phase: Phase, age: f64) {
        let since = clock::now() - (age * 1e9) as u64;
        self.thread.begin(since, self.app, 0, url.as_bytes(), b"");
        let cell = self.thread.phase_cell();
        cell.expect("an arena of one thread").set(phase);
    }
}
