//! The frame `Request`: what [`RunRequest`] holds, and the start of the body.

use wsgi_abi::keys::KEYS;
use wsgi_abi::{
    BodyPlan, Bytes, EnvEntry, Environ, KeyKind, Level, Limits, Nesting, RunRequest, Slice, Target,
    Times, Timing,
};

use crate::frame::{Kind, append, limits};
use crate::pack::{Malformed, Packer, Unpacker};
use crate::response::{LEVELS, number_of, of_detail};

/// The start of a request's body, which is sent with the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyStart<'a> {
    /// At most [`limits::BODY`] bytes.
    pub start: &'a [u8],
    /// Whether this is the whole body.
    pub is_whole: bool,
}

/// A request, as a child sends it.
pub struct OutgoingRequest<'a> {
    /// The request, without its host.
    pub run: &'a RunRequest<'a>,
    /// The highest level of lines that the request's log takes; the process does not send others.
    pub level: Level,
    /// Whether the request keeps the process from its `inactivity-timeout=`.
    pub is_activity: bool,
    /// The stamp by which the child shows the request while it runs; 0 if it shows none.
    pub since: u64,
    /// The start of the body.
    pub body: BodyStart<'a>,
    /// Which other requests wait for this one; at most [`limits::OUTER`].
    pub nesting: Nesting<'a>,
}

const LONG_START: Malformed = Malformed("the start of a body is too long");

/// Appends a request to `buffer`. Fails if the request is longer than its frame may be, or the start of its body longer
/// than [`limits::BODY`].
pub(crate) fn pack_request(
    buffer: &mut Vec<u8>,
    outgoing: &OutgoingRequest<'_>,
) -> Result<(), Malformed> {
    let (request, body) = (outgoing.run, outgoing.body);
    if body.start.len() > limits::BODY {
        return Err(LONG_START);
    }
    append(buffer, Kind::Request, number_of(outgoing.level), |to| {
        pack_target(to, &request.target);
        pack_environ(to, &request.environ);
        to.flag(request.body.is_there);
        to.u32(request.body.ahead);
        for limit in [
            request.limits.request,
            request.limits.grace,
            request.limits.slow,
        ] {
            to.u32(limit);
        }
        to.i64(request.timing.received);
        to.i64(request.timing.queue_start);
        to.flag(request.timing.times.is_some());
        to.flag(outgoing.is_activity);
        to.u64(outgoing.since);
        to.u64(outgoing.nesting.id);
        let outer = outgoing.nesting.within.get_or_empty();
        to.u32(outer.len().min(limits::OUTER) as u32);
        for &id in outer.iter().take(limits::OUTER) {
            to.u64(id);
        }
        to.flag(body.is_whole);
        to.0.extend_from_slice(body.start);
    })
}

fn pack_target(to: &mut Packer<'_>, target: &Target<'_>) {
    to.bytes(target.group.get_or_empty());
    to.i64(target.replica.into());
    to.bytes(target.script.get_or_empty());
    to.i64(target.script_mtime);
    to.flag(target.script_reloading);
    to.u32(target.load_timeout);
    to.bytes(target.callable.get_or_empty());
    to.bytes(target.resource.get_or_empty());
    to.u16(target.app);
}

fn unpack_target<'a>(from: &mut Unpacker<'a>) -> Result<Target<'a>, Malformed> {
    Ok(Target {
        group: Bytes::new(from.bytes()?),
        replica: i32::try_from(from.i64()?).map_err(|_| Malformed("a replica has no number"))?,
        script: Bytes::new(from.bytes()?),
        script_mtime: from.i64()?,
        script_reloading: from.flag()?,
        load_timeout: from.u32()?,
        callable: Bytes::new(from.bytes()?),
        resource: Bytes::new(from.bytes()?),
        app: from.u16()?,
    })
}

/// The kinds of keys, by the number on the wire.
pub(crate) const KEY_KINDS: [KeyKind; 3] = [KeyKind::Known, KeyKind::Header, KeyKind::Literal];

/// The fewest bytes of an entry: kind, number of the key, length of the value.
const LEAST_ENTRY: usize = 7;
/// Memory for more entries is allocated only once these have been read.
const MANY_ENTRIES: usize = 1024;

fn pack_environ(to: &mut Packer<'_>, environ: &Environ<'_>) {
    to.flag(environ.https);
    to.flag(environ.header_only);
    let entries = environ.entries.get_or_empty();
    to.u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
    for entry in entries {
        to.byte(entry.kind as u8);
        match entry.kind {
            KeyKind::Known => to.u16(entry.id),
            KeyKind::Header | KeyKind::Literal => to.bytes(entry.key.get_or_empty()),
        }
        to.optional(entry.value.get());
    }
}

fn unpack_entries<'a>(from: &mut Unpacker<'a>) -> Result<Vec<EnvEntry<'a>>, Malformed> {
    let count = from.count(LEAST_ENTRY)?;
    // An entry takes more memory than its fewest bytes in the frame.
    let mut entries = Vec::with_capacity(count.min(MANY_ENTRIES));
    for _ in 0..count {
        let kind = from.one_of(&KEY_KINDS)?;
        let (id, key) = match kind {
            KeyKind::Known => (from.u16()?, Bytes::ABSENT),
            KeyKind::Header | KeyKind::Literal => (0, Bytes::new(from.bytes()?)),
        };
        if kind == KeyKind::Known && usize::from(id) >= KEYS.len() {
            return Err(Malformed("a key of the environ has no name"));
        }
        entries.push(EnvEntry {
            kind,
            id,
            key,
            value: from.optional()?.into(),
        });
    }
    Ok(entries)
}

fn unpack_outer(from: &mut Unpacker<'_>) -> Result<Vec<u64>, Malformed> {
    let count = from.count(size_of::<u64>())?;
    if count > limits::OUTER {
        return Err(Malformed("a request is nested in too many others"));
    }
    (0..count).map(|_| from.u64()).collect()
}

/// A request that has arrived in a process; it borrows the frame.
pub struct UnpackedRequest<'a> {
    target: Target<'a>,
    entries: Vec<EnvEntry<'a>>,
    https: bool,
    header_only: bool,
    plan: BodyPlan,
    limits: Limits,
    received: i64,
    queue_start: i64,
    /// See [`Nesting::id`].
    id: u64,
    /// See [`Nesting::within`].
    within: Vec<u64>,
    /// Whether the child measures the request.
    pub is_timed: bool,
    /// Whether the request keeps the process from its `inactivity-timeout=`.
    pub is_activity: bool,
    /// The stamp by which the child shows the request while it runs; 0 if it shows none.
    pub since: u64,
    /// The highest level of lines for the request's log.
    pub(crate) level: Level,
    /// The start of the body.
    pub(crate) body: BodyStart<'a>,
}

impl<'a> UnpackedRequest<'a> {
    pub(crate) fn unpack(level: u8, frame: &'a [u8]) -> Result<Self, Malformed> {
        let level = of_detail(&LEVELS, level)?;
        let mut from = Unpacker::new(frame);
        let target = unpack_target(&mut from)?;
        let (https, header_only) = (from.flag()?, from.flag()?);
        let entries = unpack_entries(&mut from)?;
        let unpacked = Self {
            target,
            entries,
            https,
            header_only,
            plan: BodyPlan {
                is_there: from.flag()?,
                ahead: from.u32()?,
            },
            limits: Limits {
                request: from.u32()?,
                grace: from.u32()?,
                slow: from.u32()?,
            },
            received: from.i64()?,
            queue_start: from.i64()?,
            is_timed: from.flag()?,
            is_activity: from.flag()?,
            since: from.u64()?,
            level,
            id: from.u64()?,
            within: unpack_outer(&mut from)?,
            body: BodyStart {
                is_whole: from.flag()?,
                start: from.rest(),
            },
        };
        if unpacked.body.start.len() > limits::BODY {
            return Err(LONG_START);
        }
        Ok(unpacked)
    }

    /// Returns the value of a known key of the environ; empty if the request has none.
    pub fn variable(&self, id: u16) -> &'a [u8] {
        EnvEntry::value_of(&self.entries, id)
    }

    /// Returns the application group that runs the request.
    pub fn group(&self) -> &'a [u8] {
        self.target.group.get_or_empty()
    }

    /// Returns the request for the engine of this process, which took it at `daemon_start`, microseconds since the epoch.
    /// It has no host yet.
    pub fn run_request<'s>(
        &'s self,
        daemon_start: i64,
        times: Option<&'s Times>,
    ) -> RunRequest<'s> {
        let mut run = RunRequest::new(
            self.target,
            Environ {
                entries: Slice::new(&self.entries),
                https: self.https,
                header_only: self.header_only,
                apache_request: std::ptr::null_mut(),
            },
            self.plan,
            self.limits,
            Timing {
                received: self.received,
                queue_start: self.queue_start,
                daemon_start,
                times: times.filter(|_| self.is_timed),
            },
        );
        run.nesting = Nesting {
            id: self.id,
            within: Slice::new(&self.within),
        };
        run
    }
}
