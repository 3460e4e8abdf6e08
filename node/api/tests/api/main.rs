//! The api as its clients see it: a fake node with a real store and watch hub behind it, real sockets and
//! the generated clients before it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod authority;
mod garbage;
mod keys;
mod leases;
mod maintenance;
mod members;
mod node;
mod pages;
mod refusals;
mod stop;
mod tls;
mod watches;
