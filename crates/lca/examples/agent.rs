//! The agent without the product's command line: `agent HOST DIRECTORY SCS...`, with the certificate in `DIRECTORY/tls`.
//! The tests run it, and so can you to try something by hand.

use lca::Options;
use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(host), Some(directory)) = (arguments.next(), arguments.next().map(PathBuf::from)) else {
        anyhow::bail!("usage: agent HOST DIRECTORY SCS...");
    };
    lca::run(Options {
        scs: arguments.map(|address| address.parse()).collect::<Result<_, _>>()?,
        certificate: directory.join(format!("tls/{host}.pem")),
        key: directory.join(format!("tls/{host}.key")),
        ca: directory.join("tls/ca.pem"),
        state_directory: directory.join("state"),
        run_directory: directory.join("run"),
        real_time: true,
        cgroup: true,
        host: host.parse()?,
    })
}
