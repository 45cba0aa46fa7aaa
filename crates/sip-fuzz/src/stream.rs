//! What the primary tells its backup, as frames behind a true greeting.

use crate::office::server;
use domain::{Epoch, Micros};
use sip_core::{Change, Input, Outputs, SipCore};
use sip_sync::{Limits, Replica, Replicator, Role, Settings, Timing};
use std::time::Duration;

/// Bytes of a frame's length in a script; in the stream there are four.
const PREFIX: usize = 2;
/// Steps in which everything that is due at one time is done; more is a timer that is due for ever.
const STEPS: usize = 2_000;

type End = Replicator<<SipCore as Replica>::Cursor>;

/// A backup takes frames that mean anything, and must take over then, with whatever it has: what it does not like ends the
/// connection. `script` is frames, each behind its length (16 bits, big endian).
///
/// # Panics
/// Where something else than the connection ends.
pub fn stream(script: &[u8]) {
    let mut now = Micros(1_000_000);
    let (mut primary, mut backup) = (end("sip1"), end("sip2"));
    let mut value = server(2, now);
    primary.set_role(Role::Primary, Epoch(2));
    [&mut primary, &mut backup].iter_mut().for_each(|end| end.connected(now));
    backup.received(primary.outgoing(), &mut value, now).expect("a greeting");
    let mut rest = script;
    while let Some((length, behind)) = rest.split_first_chunk::<PREFIX>() {
        let (frame, behind) = behind.split_at(behind.len().min(u16::from_be_bytes(*length).into()));
        rest = behind;
        now += Duration::from_millis(1);
        let length = u32::try_from(frame.len()).expect("16 bits").to_be_bytes();
        let taken = backup.received(&length, &mut value, now);
        let taken = taken.and_then(|()| backup.received(frame, &mut value, now));
        if taken.and_then(|()| backup.due(&value, now)).is_err() {
            break;
        }
        let waiting = backup.outgoing().len();
        backup.sent(waiting);
    }
    let _ = backup.readiness(now);
    backup.disconnected(now);
    serve(&mut value, now);
}

/// It is primary now, for as long as anything lasts.
fn serve(value: &mut SipCore, now: Micros) {
    let mut out = Outputs::default();
    value.take_over(Epoch(3), now);
    for pause_s in [0, 1, 40, 100_000] {
        let now = now + Duration::from_secs(pause_s);
        let mut steps = 0;
        while value.next_deadline(now).is_some_and(|at| at <= now) {
            out.clear();
            value.step(Input::Due, now, Micros(now.0 + 1_700_000_000_000_000), &mut out);
            steps += 1;
            assert!(steps < STEPS, "something is due for ever");
        }
    }
    let mut cursor = None;
    while let Some(next) = value.snapshot(cursor.as_ref(), 1_000, now, &mut out.changes) {
        cursor = Some(next);
    }
}

/// The script of what a primary that made these changes would have told.
#[must_use]
pub fn told_of(changes: &[Change]) -> Vec<u8> {
    let now = Micros(1_000_000);
    let (mut primary, mut backup) = (end("sip1"), end("sip2"));
    let mut nobody = server(1, now);
    primary.set_role(Role::Primary, Epoch(2));
    [&mut primary, &mut backup].iter_mut().for_each(|end| end.connected(now));
    primary.received(backup.outgoing(), &mut nobody, now).expect("a greeting");
    let greeting = primary.outgoing().len();
    primary.sent(greeting);
    primary.due(&nobody, now).expect("the peer is there");
    primary.send(changes, now).expect("there is room");
    let (mut script, mut rest) = (Vec::new(), primary.outgoing());
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (frame, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
        rest = behind;
        script.extend(u16::try_from(frame.len()).expect("frames of changes are shorter").to_be_bytes());
        script.extend_from_slice(frame);
    }
    script
}

fn end(application: &str) -> End {
    Replicator::new(Settings {
        pair: "sip".into(),
        application: application.into(),
        release: "0".into(),
        format: sip_core::FORMAT,
        shape: 1,
        digest: 1,
        timing: Timing::default(),
        limits: Limits::default(),
    })
}
