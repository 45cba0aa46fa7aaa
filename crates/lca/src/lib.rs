//! The Local Control Agent: starts, stops and watches the applications of its host, passes run modes on, runs scripts,
//! holds VIPs, and reports all of it to the SCS. What is to happen in the cluster is decided by the SCS.

pub mod supervisor;
