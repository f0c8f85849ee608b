//! Requests that httpd makes for another one (an error page, an included part), in a process of a group.
//!
//! While a request is in a call of its host, httpd may run another one on the same thread. In a child of httpd that thread
//! has the exclusive permits of the outer request (`request::permit`), so the nested one runs within it. A process of a
//! group gets the nested request from another connection, on another thread. The outer request lends its exclusive
//! permits while its thread waits in a call of the host; without them, each would wait for the other one.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wsgi_abi::{Nesting, RunOutcome};

use crate::request::permit::{self, HasPermitsOf, PermitSource};
use crate::sync::lock;

/// The exclusive permits of one request, for requests nested in it.
#[derive(Default)]
pub(crate) struct Lender {
    /// See [`Nesting::id`].
    id: u64,
    stage: Mutex<Stage>,
    changed: Condvar,
}

#[derive(Default)]
enum Stage {
    /// The request has no exclusive permit.
    #[default]
    HasNone,
    /// The application runs.
    Keeps,
    /// The thread of the request waits in a call of the host.
    Offers(Vec<&'static dyn PermitSource>),
    /// A nested request runs.
    Lent,
}

impl Lender {
    pub(crate) fn new(nesting: Nesting<'_>) -> Self {
        Self {
            id: nesting.id,
            ..Self::default()
        }
    }

    /// See [`Nesting::id`].
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    fn set(&self, stage: Stage) {
        *lock(&self.stage) = stage;
        self.changed.notify_all();
    }

    /// The calling thread runs the application until the result is dropped. A request that can have no nested one, or has
    /// no exclusive permit, keeps nothing.
    pub(crate) fn keep(&self) -> Option<Kept<'_>> {
        (self.id != 0 && permit::is_any_exclusive()).then(|| {
            self.set(Stage::Keeps);
            Kept(self)
        })
    }

    /// The calling thread waits in a call of the host until the result is dropped. That waits for a nested request that
    /// runs.
    pub(crate) fn offer(&self) -> Option<Offer<'_>> {
        (self.id != 0 && permit::is_any_exclusive()).then(|| {
            self.set(Stage::Offers(permit::exclusive()));
            Offer(self)
        })
    }
}

/// See [`Lender::keep`].
pub(crate) struct Kept<'a>(&'a Lender);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.set(Stage::HasNone);
    }
}

/// See [`Lender::offer`].
pub(crate) struct Offer<'a>(&'a Lender);

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        let mut stage = lock(&self.0.stage);
        while matches!(*stage, Stage::Lent) {
            let waited = self.0.changed.wait(stage);
            stage = waited.unwrap_or_else(PoisonError::into_inner);
        }
        *stage = Stage::Keeps;
    }
}

/// The calling thread has the exclusive permits of an outer request until this is dropped.
pub(crate) struct Loan {
    outer: Arc<Lender>,
    sources: Vec<&'static dyn PermitSource>,
    /// Dropped first: the outer thread goes on once the permits are given back.
    has_permits: Option<HasPermitsOf>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.has_permits = None;
        let sources = std::mem::take(&mut self.sources);
        self.outer.set(Stage::Offers(sources));
    }
}

/// How often a nested request looks whether it may go on waiting.
const LOOK: Duration = Duration::from_millis(160);

/// Borrows the exclusive permits of the first of the `outer` requests, the innermost first, that has any; `None` if none
/// has. Waits while the application of that request runs, unless `why_not` returns an outcome for a request that has
/// waited in vain.
pub(crate) fn borrow(
    outer: Vec<Arc<Lender>>,
    why_not: impl Fn() -> Option<RunOutcome>,
) -> Result<Option<Loan>, RunOutcome> {
    for outer in outer {
        if let Some(sources) = outer.lend(&why_not)? {
            return Ok(Some(Loan {
                outer,
                has_permits: Some(HasPermitsOf::enter(&sources)),
                sources,
            }));
        }
    }
    Ok(None)
}

impl Lender {
    fn lend(
        &self,
        why_not: impl Fn() -> Option<RunOutcome>,
    ) -> Result<Option<Vec<&'static dyn PermitSource>>, RunOutcome> {
        let mut stage = lock(&self.stage);
        loop {
            match &mut *stage {
                // Its application has ended, perhaps with the permits of a request farther out.
                Stage::HasNone => return Ok(None),
                Stage::Offers(sources) => {
                    let sources = std::mem::take(sources);
                    *stage = Stage::Lent;
                    return Ok(Some(sources));
                }
                Stage::Keeps | Stage::Lent => {}
            }
            let waited = self.changed.wait_timeout(stage, LOOK);
            stage = waited.unwrap_or_else(PoisonError::into_inner).0;
            if let Some(outcome) = why_not() {
                return Err(outcome);
            }
        }
    }
}
