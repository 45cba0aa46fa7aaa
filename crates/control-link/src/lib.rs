//! Messages between SCS, agents and applications, and the connection that carries them: mutual TLS 1.3 over TCP for
//! what must arrive in order, sealed UDP datagrams for heartbeats. See `docs/decisions/0003-transport.md`.

pub mod messages;
