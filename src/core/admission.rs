//! How many requests are inside an interpreter, in which order the waiting ones follow, and how a permit passes from
//! one thread to the next ([E-6], [E-7]).
//!
//! [`semaphore::FifoSemaphore`] counts permits and keeps the queue; [`waiter::Waiter`] is one request in that queue,
//! and how its owner learns what became of it; [`single_worker::SingleWorker`] is a thread that runs jobs of others;
//! [`concurrency`] decides how many permits there are; [`limit::Limit`] bounds how much a group may hold in all.
//! `models.rs` runs them in every order of their steps.

pub mod concurrency;
pub mod limit;
#[cfg(all(loom, test))]
mod models;
pub mod semaphore;
pub mod single_worker;
#[cfg(all(test, not(loom)))]
mod stress;
pub mod waiter;
