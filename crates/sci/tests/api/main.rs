//! The API, its client and the command line against the real decision core and a real store.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod calls;
mod command;
mod configuration;
mod console;
mod oidc;
mod operate;
mod orders;
mod refusals;
mod rendering;
mod solutions;
mod tls;
mod traces;
mod watching;
mod web;
mod world;
