//! Application groups: which interpreters each has, and which of them runs a request ([E-9] to [E-11]).
//!
//! A group is made when it is first used, by a thread that is not attached. Only one group is made at a time. The set
//! of groups is read without a lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use wsgi_abi::{Admission, GilDecision, GilMode, GroupOptions, Strategy};
use wsgi_core::admission::limit::Limit;
use wsgi_core::messages::Message;
use wsgi_telemetry::{App, clock};

use crate::admission::delegate::Delegate;
use crate::admission::direct::Direct;
use crate::admission::executor::Executor;
use crate::admission::pool::Pool;
use crate::admission::queue::Queue;
use crate::admission::share::{self, Hold};
use crate::application::gil_trial::GilTrial;
use crate::application::loads;
use crate::application::script::{self, Application, LoadTerms, NotLoaded};
use crate::cpython::interpreter::{self, Identity, Interpreter, MAX_INTERPRETERS, Replica};
use crate::cpython::threads;
use crate::host::{self, Level, level_of};
use crate::process;
use crate::request::state::RequestState;
use crate::sync::lock;
use crate::wsgi::output::Why;
use crate::wsgi::setup;

/// The most groups that are remembered. Clients may choose the names of groups.
const MAX_GROUPS: usize = 1024;
/// How long a group waits for the interpreters of another one, whose set-up runs Python code.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the log says already that this version of Python is early for interpreters with their own GIL.
static EARLY_TOLD: AtomicBool = AtomicBool::new(false);

/// One application group.
pub(crate) struct Group {
    name: Vec<u8>,
    /// The group's interpreters, each with its executor; at least one.
    members: ArcSwap<Vec<Member>>,
    admission: Admission,
    terms: LoadTerms,
    /// The queue of requests that wait for a permit.
    queue: &'static Queue,
    /// How many threads of httpd the group's requests may hold.
    share: Limit,
    /// The group's scripts, by path.
    sites: ArcSwap<HashMap<Vec<u8>, &'static Site>>,
    /// Held for short times, to add a site and to exchange the interpreters.
    changing: Mutex<()>,
}

/// An interpreter of a group, with its executor.
#[derive(Clone, Copy)]
struct Member {
    interpreter: &'static Interpreter,
    executor: &'static dyn Executor,
}

/// An application in one of the interpreters, with the interpreter's executor.
#[derive(Clone, Copy)]
struct Candidate {
    application: &'static Application,
    executor: &'static dyn Executor,
}

/// A script of a group, in all interpreters of the group.
pub(crate) struct Site {
    group: &'static Group,
    script: Vec<u8>,
    app: App,
    instances: ArcSwap<Vec<Candidate>>,
    /// The index at which the search for the least busy application begins next.
    next: AtomicUsize,
    /// Whether a thread is loading the replicas that no request has loaded.
    spread: AtomicBool,
}

struct Registry {
    groups: ArcSwap<HashMap<Vec<u8>, &'static Group>>,
    /// How many interpreters exist that could not be set up.
    failed: AtomicUsize,
    /// How many interpreters were made for groups that the configuration does not name.
    unnamed: AtomicUsize,
}

fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| Registry {
        groups: ArcSwap::default(),
        failed: AtomicUsize::new(0),
        unnamed: AtomicUsize::new(0),
    })
}

/// Why there is no group. The log has the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoGroup {
    /// The group cannot be made.
    Failed,
    /// There are as many interpreters as allowed.
    Limit,
    /// The interpreters of this group, or of another one, were not set up in time.
    TimedOut,
    /// The limit of threads that wait for the group is reached.
    Full,
    /// The group was made, but the request was given up before that.
    GivenUp,
}

/// Returns the group of this name. On first use it makes the group, for `request` if there is one. The calling thread
/// must not be attached.
pub(crate) fn of(name: &[u8], request: Option<&RequestState>) -> Result<&'static Group, NoGroup> {
    if let Some(found) = registry().groups.load().get(name) {
        return Ok(found);
    }
    make(name, request)
}

/// A thread that waits for a group, or makes it. The thread counts as held by a request of the group.
struct Waits<'a> {
    name: &'a [u8],
}

/// How many threads wait, by the group's name.
static WAITING: Mutex<BTreeMap<Vec<u8>, u32>> = Mutex::new(BTreeMap::new());

impl<'a> Waits<'a> {
    /// Counts the calling thread. Returns `None` if the limit of waiting threads is reached.
    fn begin(name: &'a [u8], share: u32) -> Option<Self> {
        let mut waiting = lock(&WAITING);
        let count = waiting.entry(name.to_vec()).or_default();
        if *count >= share {
            return None;
        }
        *count += 1;
        Some(Self { name })
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&WAITING);
        if let Some(count) = waiting.get_mut(self.name) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                waiting.remove(self.name);
            }
        }
    }
}

#[cold]
fn make(name: &[u8], request: Option<&RequestState>) -> Result<&'static Group, NoGroup> {
    let options = host::group_options(name);
    let waits = request.map(|request| {
        request.deadline().begins_with_load();
        Waits::begin(name, options.admission.share)
    });
    if let Some(None) = waits {
        return Err(NoGroup::Full);
    }
    let plan = Plan::new(name, &options);
    // In the main interpreter all further groups share one.
    if plan.in_main && !name.is_empty() && registry().groups.load().len() >= MAX_GROUPS {
        drop(waits);
        return of(b"", request);
    }
    let load_limit = limit(options.startup_timeout);
    let wait = milliseconds(options.admission.queue_timeout);
    let patience = request.map_or(PATIENCE, |request| {
        script::left_to_wait(wait, request).min(PATIENCE)
    });
    let Some(_turn) = loads::turn_for_group(patience) else {
        // If the other group hangs, one line in the log is enough.
        if !loads::is_group_overdue() {
            let line = format!(
                "mod_wsgi_rs: the interpreters of application group '{}' were not begun within {} seconds, as those of \
                 another group are not set up yet",
                String::from_utf8_lossy(name),
                patience.as_secs()
            );
            host::log(Level::Error, &line);
        }
        plan.give_up(name);
        return Err(NoGroup::TimedOut);
    };
    let known = registry().groups.load_full();
    if let Some(found) = known.get(name) {
        return Ok(found);
    }
    let limited = loads::begin_group(name, load_limit, request);
    let interpreters = plan.interpreters(name, &options);
    drop(limited);
    let interpreters = interpreters.inspect_err(|_| plan.give_up(name))?;
    let queue: &'static Queue = Box::leak(Box::new(Queue::new(&options.admission)));
    let is_open = plan.choice == Some(GilDecision::Unknown);
    let may_fall_back = options.gil == GilMode::Auto;
    let trial = GilTrial::new(name, interpreters.len(), is_open, may_fall_back);
    let group: &'static Group = Box::leak(Box::new(Group {
        name: name.to_vec(),
        members: ArcSwap::from_pointee(members(&options.admission, name, interpreters, queue)),
        admission: options.admission,
        terms: LoadTerms {
            load: load_limit,
            wait,
            trial: Box::leak(Box::new(trial)),
        },
        queue,
        share: Limit::new(options.admission.share),
        sites: ArcSwap::default(),
        changing: Mutex::new(()),
    }));
    let mut more = HashMap::clone(&known);
    more.insert(name.to_vec(), group);
    registry().groups.store(Arc::new(more));
    if request.is_some_and(RequestState::is_given_up) {
        return Err(NoGroup::GivenUp);
    }
    Ok(group)
}

fn milliseconds(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

/// Converts the limit of a load from milliseconds; 0 means no limit.
fn limit(count: u32) -> Option<Duration> {
    (count != 0).then(|| milliseconds(count))
}

fn members(
    admission: &Admission,
    group: &[u8],
    interpreters: Vec<&'static Interpreter>,
    queue: &'static Queue,
) -> Vec<Member> {
    let member = |interpreter| Member {
        interpreter,
        executor: executor(admission, group, interpreter, queue),
    };
    interpreters.into_iter().map(member).collect()
}

/// Makes the executor of an interpreter, as configured.
fn executor(
    admission: &Admission,
    group: &[u8],
    interpreter: &'static Interpreter,
    queue: &'static Queue,
) -> &'static dyn Executor {
    match admission.strategy {
        Strategy::Direct => Box::leak(Box::new(Direct::new(interpreter))),
        Strategy::Delegate => Box::leak(Box::new(Delegate::new(admission, group, queue))),
        Strategy::Pool => Box::leak(Box::new(Pool::new(admission, interpreter, queue))),
    }
}

/// Which interpreters a new group will have.
struct Plan {
    replicas: Option<u32>,
    in_main: bool,
    /// What is known of the GIL mode of a group, if the mode has to be found out.
    choice: Option<GilDecision>,
}

impl Plan {
    /// Decides which interpreters the group gets. May wait for another child that is finding out the GIL mode.
    fn new(name: &[u8], options: &GroupOptions) -> Self {
        let shared = Plan {
            replicas: None,
            in_main: options.main || name.is_empty(),
            choice: None,
        };
        if options.gil == GilMode::Shared {
            return shared;
        }
        let shown = String::from_utf8_lossy(name);
        if let Err(why) = own_gil_is_possible() {
            host::log(
                level_of(Message::OwnGilRefused),
                &Message::OwnGilRefused.line(&[&shown, &why]),
            );
            return Plan {
                in_main: shared.in_main || options.gil == GilMode::Auto,
                ..shared
            };
        }
        let choice = match options.gil {
            GilMode::Auto => Some(host::gil_decision(name)),
            GilMode::Own | GilMode::Shared => None,
        };
        if choice == Some(GilDecision::Shared) {
            return Plan {
                in_main: true,
                choice,
                ..shared
            };
        }
        // The warning is logged once in a process.
        if !cfg!(Py_3_14) && !EARLY_TOLD.swap(true, Relaxed) {
            host::log(
                level_of(Message::OwnGilEarly),
                &Message::OwnGilEarly.line(&[&shown, &crate::VERSION]),
            );
        }
        Plan {
            replicas: Some(options.replicas.max(1)),
            in_main: false,
            choice,
        }
    }

    /// Tells the host that this child has found out nothing about the group, so that another child may try.
    fn give_up(&self, name: &[u8]) {
        if self.choice == Some(GilDecision::Unknown) {
            host::gil_decided(name, GilDecision::Unknown, b"");
        }
    }

    /// Makes the planned interpreters, except for the main one.
    fn interpreters(
        &self,
        name: &[u8],
        options: &GroupOptions,
    ) -> Result<Vec<&'static Interpreter>, NoGroup> {
        let main = interpreter::main().ok_or(NoGroup::Failed)?;
        if self.in_main {
            return Ok(vec![main]);
        }
        let count = self.replicas.unwrap_or(1);
        let failed = &registry().failed;
        if interpreter::all().len() + failed.load(Relaxed) + count as usize > MAX_INTERPRETERS {
            let shown = String::from_utf8_lossy(name);
            let line = Message::TooManyInterpreters.line(&[&MAX_INTERPRETERS, &shown]);
            host::log(level_of(Message::TooManyInterpreters), &line);
            return Err(NoGroup::Limit);
        }
        // Interpreters of groups that only requests name must not take the places of the others.
        let unnamed = &registry().unnamed;
        let is_unnamed = options.most_unnamed != u32::MAX;
        let there = u32::try_from(unnamed.load(Relaxed)).unwrap_or(u32::MAX);
        if is_unnamed && there.saturating_add(count) > options.most_unnamed {
            let shown = String::from_utf8_lossy(name);
            let line = Message::GroupLimit.line(&[&shown, &options.most_unnamed]);
            host::log(level_of(Message::GroupLimit), &line);
            return Err(NoGroup::Limit);
        }
        if is_unnamed {
            unnamed.fetch_add(count as usize, Relaxed);
        }
        let identities = (0..count).map(|index| Identity {
            group: name.to_vec(),
            replica: self.replicas.map(|of| Replica { index, of }),
        });
        let made = threads::each(identities.collect(), |identity| {
            setup::make(main, identity, options)
        });
        failed.fetch_add(made.iter().filter(|made| made.is_none()).count(), Relaxed);
        let made: Vec<&'static Interpreter> = made.into_iter().flatten().collect();
        if made.is_empty() {
            return Err(NoGroup::Failed);
        }
        Ok(made)
    }
}

/// Whether this Python has interpreters with their own GIL that can be used. The error says why not.
fn own_gil_is_possible() -> Result<(), &'static str> {
    if cfg!(Py_GIL_DISABLED) {
        Err("this build of Python is free-threaded, and has one GIL for the process or none")
    } else if cfg!(Py_3_13) {
        Ok(())
    } else if cfg!(Py_3_12) {
        Err(
            "Python 3.12 ends the process when a second one imports datetime; Python 3.13 or later is needed",
        )
    } else {
        Err("Python 3.13 or later is needed")
    }
}

impl Group {
    /// Returns how many interpreters the group has.
    fn len(&self) -> usize {
        self.members.load().len()
    }

    /// Returns a script of the group, which may not be loaded yet. `app` is its number in the segment's table.
    pub(crate) fn site(&'static self, script: &[u8], app: App) -> &'static Site {
        if let Some(found) = self.sites.load().get(script) {
            return found;
        }
        let _changing = lock(&self.changing);
        let known = self.sites.load_full();
        if let Some(found) = known.get(script) {
            return found;
        }
        let site: &'static Site = Box::leak(Box::new(Site {
            group: self,
            script: script.to_vec(),
            app,
            instances: ArcSwap::from_pointee(self.instances(script, app)),
            next: AtomicUsize::new(0),
            spread: AtomicBool::new(false),
        }));
        let mut more = HashMap::clone(&known);
        more.insert(script.to_vec(), site);
        self.sites.store(Arc::new(more));
        site
    }

    fn instances(&self, script: &[u8], app: App) -> Vec<Candidate> {
        let instance = |member: &Member| Candidate {
            application: script::of(member.interpreter, script, app, self.terms),
            executor: member.executor,
        };
        self.members.load().iter().map(instance).collect()
    }

    /// Handles an application that cannot be loaded in an interpreter of the group, because `module` refuses. Returns
    /// whether the group has moved to the main interpreter.
    fn refused(&self, module: &str) -> bool {
        let trial = self.terms.trial;
        let Some(main) = interpreter::main().filter(|_| trial.may_fall_back()) else {
            return false;
        };
        let _changing = lock(&self.changing);
        let is_main = |member: &Member| std::ptr::eq(member.interpreter, main);
        trial.refused();
        if self.members.load().iter().all(is_main) {
            return true;
        }
        let there = members(&self.admission, &self.name, vec![main], self.queue);
        self.members.store(Arc::new(there));
        for site in self.sites.load().values() {
            let here = self.instances(&site.script, site.app);
            for left in site.instances.swap(Arc::new(here)).iter() {
                left.application.state().leave();
            }
        }
        host::gil_decided(&self.name, GilDecision::Shared, module.as_bytes());
        let shown = String::from_utf8_lossy(&self.name);
        let line = Message::SharedGilChosen.line(&[&shown, &module]);
        host::log(level_of(Message::SharedGilChosen), &line);
        true
    }
}

impl Site {
    pub(crate) fn script(&self) -> &[u8] {
        &self.script
    }

    /// Returns the name of the group.
    pub(crate) fn group_name(&self) -> &[u8] {
        &self.group.name
    }

    /// Returns the application that runs a request, with its executor: that of the replica `wanted`, or else the least
    /// busy one of those that are loaded; equally busy ones take turns.
    pub(crate) fn choose(
        &'static self,
        wanted: i32,
    ) -> (&'static Application, &'static dyn Executor) {
        let instances = self.instances.load();
        let chosen = self.choose_of(&instances, wanted);
        (chosen.application, chosen.executor)
    }

    fn choose_of(&'static self, instances: &[Candidate], wanted: i32) -> Candidate {
        if let [only] = instances {
            return *only;
        }
        if let Ok(wanted) = usize::try_from(wanted) {
            return instances[wanted % instances.len()];
        }
        let start = self.next.fetch_add(1, Relaxed);
        let turns = (0..instances.len()).map(|step| (start + step) % instances.len());
        let (mut ready, mut chosen) = (0, ((true, true), u32::MAX, 0));
        for at in turns {
            let is_ready = instances[at].application.state().is_ready();
            ready += usize::from(is_ready);
            let inside = instances[at].executor.load();
            let is_late = !is_ready && instances[at].application.is_overdue();
            if ((is_late, !is_ready), inside) < (chosen.0, chosen.1) {
                chosen = ((is_late, !is_ready), inside, at);
            }
        }
        // The other replicas are only loaded after a first request has shown that the application can be loaded.
        if ready != instances.len() && ready != 0 {
            self.spread(instances);
        }
        instances[chosen.2]
    }

    /// Makes the calling thread one of the httpd threads that requests of the group hold. `None` if the group holds as
    /// many as it may.
    pub(crate) fn hold(&'static self) -> Option<Hold> {
        share::hold(&self.group.share)
    }

    /// Returns how long a request may wait for a permit.
    pub(crate) fn queue_timeout(&self) -> Duration {
        milliseconds(self.group.admission.queue_timeout)
    }

    /// Whether an interpreter has loaded the application.
    pub(crate) fn is_served(&self) -> bool {
        let instances = self.instances.load();
        instances
            .iter()
            .any(|instance| instance.application.state().is_ready())
    }

    /// Loads the replicas that are not loaded, on a separate thread, so that requests do not wait for them: those that
    /// no request has loaded, and those that have failed, once their retry is due.
    #[cold]
    fn spread(&'static self, instances: &[Candidate]) {
        let now = clock::now();
        let others = instances.iter().map(|instance| instance.application);
        let due: Vec<_> = others
            .filter(|other| !other.state().is_ready() && other.is_due(now))
            .collect();
        // While it is not known whether the application can be loaded in such interpreters, one attempt is enough.
        if due.is_empty() || self.group.terms.trial.is_open() || self.spread.swap(true, Relaxed) {
            return;
        }
        /// Clears the mark, also if the work panics.
        struct Over(&'static Site);
        impl Drop for Over {
            fn drop(&mut self) {
                self.0.spread.store(false, Relaxed);
            }
        }
        let started = threads::background("wsgi-load", move || {
            let _over = Over(self);
            threads::each(due, |application| self.load_one(application));
        });
        if !started {
            self.spread.store(false, Relaxed);
        }
    }

    /// Loads the script in all interpreters of the group. The calling thread must not be attached. Returns whether at
    /// least one has loaded it.
    pub(crate) fn load(&'static self) -> bool {
        let instances = self.instances.load_full();
        let all = instances.iter().map(|instance| instance.application);
        let mut rest: Vec<_> = all.collect();
        if self.group.terms.trial.is_open() {
            match self.load_one(rest.remove(0)) {
                LoadEnd::Loaded => {}
                LoadEnd::Moved => return self.load(),
                LoadEnd::Failed => return false,
            }
        }
        let ends = threads::each(rest, |application| self.load_one(application));
        if ends.contains(&LoadEnd::Moved) {
            return self.load();
        }
        self.is_served()
    }

    /// Loads an application of this script without a request. The calling thread must not be attached.
    fn load_one(&self, application: &'static Application) -> LoadEnd {
        match application.load_ahead() {
            Ok(()) => LoadEnd::Loaded,
            Err(NotLoaded::Failed { again }) => {
                self.not_loaded(application, &Why::Failed { again });
                LoadEnd::Failed
            }
            Err(NotLoaded::Refused(module)) => {
                match self.not_loaded(application, &Why::Refused(module)) {
                    true => LoadEnd::Moved,
                    false => LoadEnd::Failed,
                }
            }
            Err(NotLoaded::TimedOut) => LoadEnd::Failed,
        }
    }

    /// Decides what follows for the group from an application of this script that could not be loaded. Returns whether
    /// the group has moved to the main interpreter.
    pub(crate) fn not_loaded(&self, application: &Application, why: &Why) -> bool {
        match why {
            Why::Refused(module) => self.group.refused(module),
            Why::Failed {
                again: Some(seconds),
            } if self.is_served() => {
                let described = application.interpreter().describe();
                let message = Message::ReplicaFailed;
                let line = message.line(&[&application.script_text(), &described, seconds]);
                host::log(level_of(message), &line);
                false
            }
            Why::Failed { .. } => false,
        }
    }
}

/// How a load without a request ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LoadEnd {
    Loaded,
    /// The application was not loaded, and the group has moved to the main interpreter.
    Moved,
    Failed,
}

/// Loads a script ahead of its first request, in all interpreters of its group. Returns whether at least one has loaded
/// it. Failures are in the log.
pub fn load(group: &[u8], script: &[u8], app: u16) -> bool {
    let _inside = process::Inside::enter();
    match of(group, None) {
        Ok(group) => group.site(script, App::new(app)).load(),
        Err(_) => {
            let shown = String::from_utf8_lossy;
            let line = Message::ImportScriptInterpreter.line(&[&shown(script), &shown(group)]);
            host::log(level_of(Message::ImportScriptInterpreter), &line);
            false
        }
    }
}

/// Returns how many interpreters the group has, which are made on first use; 0 if that failed.
pub fn replicas(group: &[u8]) -> u32 {
    let _inside = process::Inside::enter();
    of(group, None).map_or(0, |group| u32::try_from(group.len()).unwrap_or(u32::MAX))
}
