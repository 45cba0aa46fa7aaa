//! Peers on the control port that have no business there.

use anyhow::{Context, ensure};
use control_link::{Role, ca};
use domain::events;
use e2e::{last_row, ordinary_site, tells, whole};
use netlab::Lab;
use rehearsal::{CLIENT, Site};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An agent with another installation's certificate, and one of a host that the cluster file does not have: each is
/// refused with a reason in the log, and the pair does not notice.
pub fn wrong_certificates_are_refused_with_a_reason(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let (api, prober) = (site.api()?, site.prober()?);
    let begun = netlab::now();
    let files = site.files().to_owned();
    let foreign = files.join("foreign");
    ca::init(&foreign.join("ca"), "somebody else's")?;
    ca::issue(&foreign.join("ca"), Role::Agent, "host9", &foreign)?;
    ca::issue(&files.join("ca"), Role::Agent, "host9", &files)?;
    for directory in [&foreign, &files] {
        let row = last_row(&api)?;
        let mut agent = agent_of_a_stranger(&site, directory)?;
        let refused = tells(&api, row, &[(events::PEER_REFUSED, "")]);
        agent.kill()?;
        agent.wait()?;
        refused.with_context(|| fs::read_to_string(directory.join("host9.log")).unwrap_or_default())?;
    }
    let reasons: Vec<String> =
        api.log()?.into_iter().filter(|r| r.event.id == events::PEER_REFUSED).map(|r| r.event.text).collect();
    println!("{}", reasons.join("\n"));
    ensure!(reasons.iter().any(|r| r.contains("host9")), "the unknown host is not named: {reasons:?}");
    ensure!(prober.observe(begun).count_by_tag().len() == 1, "another than the primary has answered");
    ensure!(api.view()?.pairs[0].epoch == e2e::FIRST_GRANT, "no role change was due");
    whole(&site, "sip1")
}

/// Plain text, half a handshake and silence on the port: refused, and agents come and go as before.
pub fn garbage_harms_nobody(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    let api = site.api()?;
    let row = last_row(&api)?;
    let held = site.lab.in_host(CLIENT, || -> std::io::Result<Vec<TcpStream>> {
        let mut held = Vec::new();
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff, 1], &[0; 4096], b""] {
            let mut stream = TcpStream::connect("192.0.2.10:7400")?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(bytes)?;
            if bytes.len() > 100 {
                // Refused: the other end closes, by an alert or a reset.
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
            }
            held.push(stream);
        }
        Ok(held)
    })??;
    tells(&api, row, &[(events::PEER_REFUSED, "")])?;
    site.kill_agent("host2")?;
    site.start_agent("host2")?;
    whole(&site, "sip1")?;
    drop(held);
    Ok(())
}

/// An agent process on the client's host that says it is "host9", with the certificate in `directory`.
fn agent_of_a_stranger(site: &Site, directory: &Path) -> anyhow::Result<Child> {
    let (file, log) = (directory.join("host9.toml"), fs::File::create(directory.join("host9.log"))?);
    let at = directory.display();
    fs::write(
        &file,
        format!(
            "host = \"host9\"\nscs = [\"192.0.2.10:7400\"]\ncertificate = \"{at}/host9.pem\"\nkey = \"{at}/host9.key\"\n\
             ca = \"{at}/ca.pem\"\n"
        ),
    )?;
    let mut command = Command::new(site.takeover());
    command.arg("lca").arg("--config").arg(&file).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(site.lab.spawn(CLIENT, command)?)
}
