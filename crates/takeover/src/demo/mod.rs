//! `takeover demo` (being written).

use std::process::ExitCode;

/// Arguments of `takeover demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Runs it.
pub fn run(_: &Arguments) -> anyhow::Result<ExitCode> {
    if let netlab::Place::Outside(code) = netlab::enter()? {
        return Ok(ExitCode::from(code));
    }
    let lab = netlab::Lab::new()?;
    let exe = std::env::current_exe()?;
    let mut site = rehearsal::Site::build(lab, rehearsal::Settings::new(&exe))?;
    let t = std::time::Instant::now();
    let r = site.start();
    println!("{r:?} {:?}", t.elapsed());
    println!("{}", site.logs());
    let prober = site.prober()?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    println!("{:?}", prober.live());
    let api = site.api()?;
    for round in 0..4 {
        let (old, new) = if round % 2 == 0 { ("sip1", "sip2") } else { ("sip2", "sip1") };
        let from = rehearsal::Site::now();
        if round < 2 {
            api.switch_over("sip", "demo")?;
        } else {
            site.signal_app(old, nix::sys::signal::Signal::SIGKILL)?;
        }
        println!("{:?}", site.wait_whole(new, std::time::Duration::from_secs(10)).is_ok());
        let o = prober.observe(from);
        println!("{:?} lost {}", o.takeover(old, new), o.lost());
        let i = api.incidents()?.pop();
        if let Some(i) = i {
            let b = i.begun;
            for s in i.steps {
                println!("{:>8} {:?} {:?} {}", s.at.0 as i64 - b.0 as i64, s.number, s.phase, s.text);
            }
            println!("{:?} {:?}", i.kind, i.outcome);
        }
    }
    Ok(ExitCode::SUCCESS)
}
