//! Nobody keeps the others out: not by sending slowly, not by sending much.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use tower::ServiceExt as _;
use xebec_api::{Value, object};
use xebec_server::auth::User;
use xebec_server::auth::user::MASTERS;
use xebec_server::config::Settings;

use crate::client::{Call, Client};
use crate::cluster::{Cluster, trust};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, size: usize) -> Value {
    object!({"metadata": {"name": name}, "data": {"a": ("x".repeat(size))}})
}

/// A client of a user who may do everything in the namespace.
async fn user(cluster: &Cluster, admin: &Client, name: &str) -> Client {
    let user = cluster.user(name, None).await;
    trust(admin, &user, name).await;
    user
}

#[tokio::test]
async fn slow_bodies_hold_up_only_who_sends_them() {
    let cluster = Cluster::start_with(Settings {
        max_mutating: 2,
        max_user_requests: 3,
        request_timeout: Duration::from_secs(8),
        ..Settings::default()
    })
    .await;
    let admin = cluster.admin().await;
    let (jane, bob) = (user(&cluster, &admin, "jane").await, user(&cluster, &admin, "bob").await);
    let slow: Vec<_> =
        ["a", "b", "c"].iter().map(|name| jane.begin(Call::post(MAPS, &map(name, 1)))).collect();
    // When all three have come, there is no turn left for her.
    let mut answer = jane.get(MAPS).await;
    for _ in 0..1000 {
        if answer.code == 429 {
            break;
        }
        answer = jane.get(MAPS).await;
    }
    let text = answer.refused(429, "TooManyRequests").expect("three are under way");
    assert!(text.starts_with("3 requests of this user are under way"), "{text}");
    assert_eq!(answer.headers.get("retry-after").map(|v| v.as_bytes()), Some(&b"1"[..]));
    for (client, name) in [(&bob, "of-bob"), (&admin, "of-admin")] {
        let made = client.send(Call::post(MAPS, &map(name, 1))).await;
        made.expect(201).expect("others are not held up");
    }
    for begun in slow {
        begun.end().await.expect(201).expect("what is slow comes to an end");
    }
    jane.get(MAPS).await.expect(200).expect("she has turns again");
}

#[tokio::test]
async fn a_list_counts_until_it_is_read() {
    let settings =
        Settings { max_user_requests: 1, request_timeout: Duration::from_secs(8), ..Settings::default() };
    let cluster = Cluster::start_with(settings).await;
    let admin = cluster.admin().await;
    let jane = user(&cluster, &admin, "jane").await;
    // Far more than is on its way while nobody reads.
    for n in 0..10 {
        let made = admin.send(Call::post(MAPS, &map(&format!("m{n}"), 900_000))).await;
        made.expect(201).expect("made");
    }
    let list = jane.watch(MAPS).await.expect("it begins");
    let one = format!("{MAPS}/m0");
    let text = jane.get(&one).await.refused(429, "TooManyRequests").expect("her list has not ended");
    assert!(text.starts_with("1 requests of this user are under way"), "{text}");
    drop(list);
    jane.get(&one).await.expect(200).expect("she has turns again");
    let all = jane.get(MAPS).await.expect(200).expect("a list that is read");
    assert_eq!(all.array_at(&["items"]).len(), 10);
    // The same, which the server gives up.
    let list = jane.watch(MAPS).await.expect("it begins");
    let mut answer = jane.get(&one).await;
    for _ in 0..10 {
        if answer.code == 200 {
            break;
        }
        answer = jane.get(&one).await;
    }
    answer.expect(200).expect("she has turns again, since nobody read the list");
    list.rest().await.expect_err("the rest of it never comes");
}

#[tokio::test]
async fn bodies_that_never_end_are_given_up() {
    let settings = Settings { request_timeout: Duration::from_secs(1), ..Settings::default() };
    let cluster = Cluster::start_with(settings).await;
    let admin = cluster.admin().await;
    let begun = admin.begin(Call::post(MAPS, &map("a", 1)));
    let answer = begun.given_up().await;
    answer.refused(504, "Timeout").expect("the server does not wait for ever");
    admin.send(Call::post(MAPS, &map("a", 1))).await.expect(201).expect("nothing was made");
}

#[tokio::test]
async fn bodies_share_so_many_bytes() {
    let settings = Settings { max_body_bytes: 40_000, ..Settings::default() };
    let cluster = Cluster::start_with(settings).await;
    let admin = cluster.admin().await;
    let jane = user(&cluster, &admin, "jane").await;
    let text = jane.send(Call::post(MAPS, &map("a", 12_000))).await.refused(429, "TooManyRequests");
    let text = text.expect("more than a quarter");
    assert!(text.contains("of this user hold more than 10000 bytes"), "{text}");
    admin.send(Call::post(MAPS, &map("a", 12_000))).await.expect(201).expect("the quarter is not for her");
    let text = admin.send(Call::post(MAPS, &map("b", 50_000))).await.refused(429, "TooManyRequests");
    let text = text.expect("more than there is");
    assert!(text.contains("of all users hold more than 40000 bytes"), "{text}");
    for name in ["c", "d", "e"] {
        jane.send(Call::post(MAPS, &map(name, 9_000))).await.expect(201).expect("one after the other");
    }
}

#[tokio::test]
async fn watches_of_users_leave_room_for_those_of_others() {
    let cluster = Cluster::start_with(Settings { max_watches: 1, ..Settings::default() }).await;
    let admin = cluster.admin().await;
    let jane = user(&cluster, &admin, "jane").await;
    let path = format!("{MAPS}?watch=true");
    let open = jane.watch(&path).await.expect("the first");
    let text = jane.get(&path).await.refused(429, "TooManyRequests").expect("one is open");
    assert!(text.starts_with("1 watches are open, which is the limit"), "{text}");
    let of_admin = admin.watch(&path).await.expect("who may do everything is not kept out");
    let text = admin.get(&path).await.refused(429, "TooManyRequests").expect("one is open");
    assert!(text.starts_with("1 watches are open, which is the limit"), "{text}");
    let component = cluster.server.local(User::component("heart", &[MASTERS]));
    let request = Request::get(&path).body(Empty::<Bytes>::new()).expect("a request");
    let of_component = component.oneshot(request).await.expect("an answer");
    assert_eq!(of_component.status(), 200, "a component is kept out by neither");
    drop((open, of_admin, of_component));
}

#[tokio::test]
async fn how_the_server_is_can_always_be_asked() {
    let request_timeout = Duration::from_millis(200);
    let settings = Settings { max_mutating: 0, max_reading: 0, request_timeout, ..Settings::default() };
    let cluster = Cluster::start_with(settings).await;
    let nobody = cluster.connect(None).await;
    for path in ["/livez", "/readyz", "/healthz", "/version"] {
        assert_eq!(nobody.get(path).await.code, 200, "{path}");
    }
    let jane = cluster.user("jane", None).await;
    for path in ["/apis", "/api/v1", "/openapi/v2", "/openapi/v3", "/openapi/v3/apis/apps/v1"] {
        let answer = jane.get(path).await;
        let text = answer.refused(429, "TooManyRequests").unwrap_or_else(|why| panic!("{path}: {why}"));
        assert!(text.contains("too many requests are under way"), "{path}: {text}");
    }
}
