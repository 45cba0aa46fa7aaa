//! The calls of a pair's SIP Server, from the command line and by HTTP.

use crate::world::{World, app};
use sci::api::{CallLine, CallPage, CallTrace, escaped};
use sci::client::ClientError;

fn problem<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, String) {
    match result {
        Err(ClientError::Problem(problem)) => (problem.status, problem.detail.clone()),
        other => panic!("{other:?} is no problem"),
    }
}

#[test]
fn the_primary_is_asked_unless_another_member_is_named() {
    let world = World::new();
    let client = &world.client;
    world.run(async {
        let page: CallPage = client.get("/pairs/sip/calls", &[("limit", "2")]).await.unwrap();
        assert_eq!((page.app, page.calls.len(), page.next.as_deref()), (Some(app("sip1")), 2, Some("2-2")));
        let rest: CallPage = client.get("/pairs/sip/calls", &[("after", "2-2")]).await.unwrap();
        assert_eq!((rest.calls.len(), rest.next), (1, None));
        let path = format!("/pairs/sip/calls/{}", escaped("id 3/x"));
        let call: CallLine = client.get(&path, &()).await.unwrap();
        assert_eq!((call.call.as_str(), call.call_id.as_str(), call.age_ms), ("2-3", "id 3/x", 1_500));
        let trace: CallTrace = client.get("/pairs/sip/calls/2-3/trace", &[("app", "sip2")]).await.unwrap();
        assert!(trace.ladder.starts_with("ladder of sip2\n"), "{}", trace.ladder);

        let none = client.get::<CallLine>("/pairs/sip/calls/2-9", &()).await;
        assert_eq!(problem(none), (404, "there is no such call".to_owned()));
        assert_eq!(problem(client.get::<CallLine>("/pairs/sip/calls/old", &()).await).0, 502);
        assert_eq!(problem(client.get::<CallPage>("/pairs/nobody/calls", &()).await).0, 404);
        let stranger = client.get::<CallPage>("/pairs/sip/calls", &[("app", "sip9")]).await;
        assert_eq!(problem(stranger), (400, "sip9 is no member of sip".to_owned()));
        let long = format!("/pairs/sip/calls/{}", "x".repeat(600));
        assert_eq!(problem(client.get::<CallLine>(&long, &()).await).0, 400);
    });
}
