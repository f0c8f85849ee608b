//! A segment with its file, made by the test: one application, one child and one thread.

use std::fs::{File, Permissions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use tempfile::TempDir;
use wsgi_telemetry::catalogue::{ANSWERED, CODE, Id, value};
use wsgi_telemetry::published::{Copied, Origin, publish};
use wsgi_telemetry::{
    App, Arena, CustomKind, Description, Geometry, Owner, Part, Phase, Role, Segment, clock, memory,
};

/// A test server; its folder is removed when it is dropped.
pub(crate) struct Server {
    _folder: TempDir,
    path: PathBuf,
    parent: u32,
    memory: OwnedFd,
    segment: Segment,
    thread: Arena,
    app: App,
}

impl Server {
    /// Makes a segment whose header names process `parent` as its maker.
    pub(crate) fn new(parent: u32) -> Self {
        Self::with(parent, Geometry::new(1, 1, 1, 4))
    }

    /// Makes a segment of a server that measures nothing.
    pub(crate) fn unmeasured() -> Self {
        Self::with(std::process::id(), Geometry::of_board(4))
    }

    fn with(parent: u32, geometry: Geometry) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mod_wsgi_rs.segment");
        let (memory, cells) = memory::sealed("test", geometry.words()).expect("memory");
        let segment = Segment::create(cells, geometry, parent).expect("a segment");
        segment.set_limits(1, 1, 1, false, true);
        let owner = Owner::of_this_process(0);
        segment.claim(owner, 0, Role::Ready).expect("an arena");
        let thread = segment.claim(owner, 1, Role::Thread).expect("an arena");
        let app = segment.application_named("/shop", ["/shop", "/srv/shop.wsgi", ""], owner);
        let server = Self {
            _folder: folder,
            path,
            parent,
            memory,
            segment,
            thread: segment.arena_of(thread),
            app,
        };
        server.publish();
        server
    }

    /// Writes the file again, as a server's parent does from time to time.
    pub(crate) fn publish(&self) {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .expect("a file");
        let mode = Permissions::from_mode(0o640);
        file.set_permissions(mode).expect("permissions");
        let known = Origin {
            parent: self.parent,
            start: self.segment.start(),
            descriptor: self.memory.as_raw_fd().cast_unsigned(),
        };
        let copied = publish(&self.segment, &self.memory, known, &file).expect("written");
        assert_eq!(copied, Copied::Whole);
    }

    /// Returns the inode number of the memory.
    pub(crate) fn inode(&self) -> u64 {
        let memory = self.memory.try_clone().expect("a descriptor");
        let found = File::from(memory).metadata();
        std::os::unix::fs::MetadataExt::ino(&found.expect("metadata"))
    }

    /// Counts in a metric of the application, with this label value.
    pub(crate) fn custom(&self, value: &str) {
        let owner = Owner::of_this_process(0);
        let description = Description {
            name: String::from("shop_orders"),
            kind: CustomKind::Counter,
            labels: vec![String::from("kind")],
            help: value.to_owned(),
        };
        let family = self.segment.custom_family(&description, owner);
        let family = family.expect("a family");
        let series = self
            .segment
            .custom_series(family, Part::Value, &[value], owner);
        self.thread.series_add(series.expect("a series"), 1.0);
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

    /// Counts `count` finished requests.
    pub(crate) fn requests(&self, count: usize, code: &str) {
        let block = self.thread.application(self.app);
        for _ in 0..count {
            block.observe(Id::RequestDuration, value(ANSWERED, code), 12_000_000);
            block.finish_request(value(CODE, code));
        }
    }

    /// Begins a request that has been running for `age` seconds.
    pub(crate) fn run(&self, url: &str, phase: Phase, age: f64) {
        let since = clock::now() - (age * 1e9) as u64;
        self.thread.begin(since, self.app, 0, url.as_bytes(), b"");
        let cell = self.thread.phase_cell();
        cell.expect("an arena of one thread").set(phase);
    }
}
