//! The configuration over the API: planned, applied, refused, and undone.

use crate::command::takeover;
use crate::world::World;
use domain::PairName;
use sci::api::{ApplyConfiguration, ConfigurationText, MAX_BODY, PlanConfiguration, Problem, Revisions};
use sci::client::ClientError;
use scs::configuration::{How, InForce, Outlook, Revision};
use std::process::ExitCode;

impl World {
    async fn text(&self) -> String {
        self.client.get::<ConfigurationText>("/configuration/text", &()).await.unwrap().text
    }

    async fn apply(&self, body: &ApplyConfiguration) -> Result<Revision, Problem> {
        match self.client.post("/configuration", body).await {
            Ok(revision) => Ok(revision),
            Err(ClientError::Problem(problem)) => Err(*problem),
            Err(error) => panic!("{error}"),
        }
    }
}

fn sent(text: String, base: u64, reason: &str) -> ApplyConfiguration {
    ApplyConfiguration { text: Some(text), base: Some(base), reason: reason.to_owned(), ..Default::default() }
}

#[test]
fn a_configuration_is_planned_applied_and_undone() {
    let world = World::new();
    let file = world.directory.path().join("cluster.toml");
    let was = std::fs::read_to_string(&file).unwrap();
    world.run(async {
        let text = world.text().await;
        assert_eq!(text, was);
        // More than other bodies may have: comments are part of the file.
        let flapping = text.replacen("[pairs.sip]", "[pairs.sip]\nfailback = \"manual\"", 1);
        let changed = format!("{flapping}\n# {}\n", "x".repeat(2 * MAX_BODY));
        let plan = PlanConfiguration { text: Some(changed.clone()), ..Default::default() };
        let outlook: Outlook = world.client.post("/configuration/plan", &plan).await.unwrap();
        let changes: Vec<_> = outlook.changes.iter().map(ToString::to_string).collect();
        assert_eq!(changes, ["pair sip: failback changed from never to manual: takes effect at once"]);
        assert!(outlook.diff.contains("+failback = \"manual\""), "{}", outlook.diff);
        assert_eq!((outlook.base, outlook.errors), (1, 0));

        let applied = world.apply(&sent(changed.clone(), 1, "tests")).await.unwrap();
        assert_eq!((applied.number, applied.how, applied.reason.as_str()), (2, How::Applied, "tests"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), changed);
        // Whoever planned on top of the first one is told.
        let late = world.apply(&sent(text.clone(), 1, "")).await.unwrap_err();
        assert!(late.status == 409 && late.detail.contains("revision 2 is in force"), "{late}");
        // The same again is nothing new.
        assert_eq!(world.apply(&sent(changed, 2, "")).await.unwrap().number, 2);

        let back = ApplyConfiguration { revision: Some(1), ..Default::default() };
        // The records are on their way to the disk.
        assert!(world.handle.store().flush(crate::world::LIMIT));
        let back = world.apply(&back).await.unwrap();
        assert_eq!((back.number, back.how), (3, How::RolledBack { to: 1 }));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), was);
        let none = ApplyConfiguration { revision: Some(77), ..Default::default() };
        assert_eq!(world.apply(&none).await.unwrap_err().status, 404);

        assert!(world.handle.store().flush(crate::world::LIMIT));
        let all: Revisions = world.client.get("/configuration/revisions", &()).await.unwrap();
        let numbers: Vec<_> = all.revisions.iter().map(|r| (r.number, r.changes.len())).collect();
        assert_eq!(numbers, [(3, 1), (2, 1), (1, 0)]);
        let second = "/configuration/revisions/2/text";
        let kept: ConfigurationText = world.client.get(second, &()).await.unwrap();
        assert!(kept.text.contains("failback"), "{}", kept.text);
    });
    let done: Vec<_> = world.audit().into_iter().map(|r| (r.what, r.result)).collect();
    assert_eq!(done[0], ("apply a configuration".to_owned(), "accepted: revision 2".to_owned()));
    assert!(done[1].1.starts_with("refused: "), "{done:?}");
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_changes_nothing() {
    let world = World::new();
    let file = world.directory.path().join("cluster.toml");
    let was = std::fs::read_to_string(&file).unwrap();
    world.run(async {
        let broken = was.replacen("[pairs.sip]", "[pairs.sip]\nprofile = \"faster\"", 1);
        let line = 2 + was.lines().position(|line| line == "[pairs.sip]").unwrap();
        let refused = world.apply(&sent(broken, 1, "")).await.unwrap_err();
        assert_eq!(refused.status, 422);
        let outlook = refused.outlook.unwrap();
        assert_eq!(outlook.errors, 1);
        assert_eq!(outlook.diagnostics[0].at.as_ref().unwrap().line, line);
        let both = ApplyConfiguration { text: Some(was.clone()), revision: Some(1), ..Default::default() };
        assert_eq!(world.apply(&both).await.unwrap_err().status, 400);

        // Edited behind the SCS's back: said, not overwritten, and read when that is asked for.
        let edited = was.replacen("[pairs.sip]", "[pairs.sip]\nfailback = \"manual\"", 1);
        std::fs::write(&file, &edited).unwrap();
        let now: InForce = world.client.get("/configuration", &()).await.unwrap();
        assert!(now.file_differs.is_some_and(|why| why.contains("edited")));
        let other = was.replacen("[pairs.sip]", "[pairs.sip]\nfailback = \"after 10m\"", 1);
        let refused = world.apply(&sent(other, 1, "")).await.unwrap_err();
        assert!(refused.status == 409 && refused.detail.contains("config reload"), "{refused}");
        // Going back throws an edit away only where that is what was asked for.
        let back = ApplyConfiguration { revision: Some(1), ..Default::default() };
        assert_eq!(world.apply(&back).await.unwrap().number, 1);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), was);
        // One that is no text is somebody's, too.
        std::fs::write(&file, b"\xff\xfe").unwrap();
        let other = was.replacen("[pairs.sip]", "[pairs.sip]\nfailback = \"after 10m\"", 1);
        assert_eq!(world.apply(&sent(other, 1, "")).await.unwrap_err().status, 409);
        assert_eq!(std::fs::read(&file).unwrap(), b"\xff\xfe");

        // What is read is what was looked at.
        std::fs::write(&file, format!("{edited}# one\n")).unwrap();
        let plan = PlanConfiguration::default();
        let seen: Outlook = world.client.post("/configuration/plan", &plan).await.unwrap();
        std::fs::write(&file, &edited).unwrap();
        let late = ApplyConfiguration { digest: Some(seen.digest), ..Default::default() };
        let refused = world.apply(&late).await.unwrap_err();
        assert!(refused.status == 409 && refused.detail.contains("looked at"), "{refused}");
        let reloaded = world.apply(&ApplyConfiguration::default()).await.unwrap();
        assert_eq!((reloaded.number, reloaded.how), (2, How::Reloaded));
        let now: InForce = world.client.get("/configuration", &()).await.unwrap();
        assert_eq!(now.file_differs, None);
        assert!(now.waits_for_restart.is_empty());

        // What only a restart changes is said to wait for it.
        let moved = edited.replacen(
            "[pairs.sip]",
            "[scs]\nagent-grace = \"4s\"\nlisten = [\"127.0.0.1:7410\"]\n[pairs.sip]",
            1,
        );
        let moved = if edited.contains("[scs]") { edited.replacen("7400", "7410", 1) } else { moved };
        world.apply(&sent(moved.clone(), 2, "")).await.unwrap();
        std::fs::write(&file, &was).unwrap();
        assert_eq!(world.apply(&back).await.unwrap_err().status, 409, "the edit would be lost");
        std::fs::write(&file, &moved).unwrap();
        let now: InForce = world.client.get("/configuration", &()).await.unwrap();
        assert_eq!(now.waits_for_restart.len(), 1, "{now:?}");
    });
}

#[test]
fn the_command_line_shows_before_it_applies() {
    let world = World::new();
    let scs = format!("unix:{}", world.socket.display());
    let file = world.directory.path().join("new.toml");
    let was = std::fs::read_to_string(world.directory.path().join("cluster.toml")).unwrap();
    let path = file.display();
    std::fs::write(&file, was.replace("[pairs.sip]", "[pairs.phones]")).unwrap();
    assert_eq!(takeover(&format!("config plan {path}"), &scs), ExitCode::SUCCESS);
    let has = |name: &'static str| {
        move |view: &ha_core::View| view.pairs.iter().any(|pair| pair.name == PairName::new(name).unwrap())
    };
    world.until("the pair has its name", has("sip"));
    assert_eq!(takeover(&format!("config apply {path} --yes --reason name"), &scs), ExitCode::SUCCESS);
    world.until("the pair has another name", has("phones"));
    assert!(world.handle.store().flush(crate::world::LIMIT));
    for line in
        ["config", "config --json", "config history", "config show --revision 1", "config rollback 1 --yes"]
    {
        assert_eq!(takeover(line, &scs), ExitCode::SUCCESS, "{line}");
    }
    world.until("it has its name again", has("sip"));
    std::fs::write(&file, "hosts = 5").unwrap();
    for line in ["plan", "apply --yes"] {
        assert_eq!(takeover(&format!("config {line} {path}"), &scs), ExitCode::from(2), "{line}");
    }
    assert_eq!(takeover("config rollback 77 --yes", &scs), ExitCode::from(1));
}
