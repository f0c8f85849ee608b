//! Clients that send and receive slowly.
