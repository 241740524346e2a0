//! The service's own processes stand still for longer than every time-out, or are killed.

use std::time::Duration;

use tokio::time::sleep;

use super::load::{KNOWN, Scene};
use crate::support::services::exclusive;

/// Longer than every time-out that is configured, and than the settle budget, which is a quarter of the interval.
const STALL: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_worker_that_stood_still_does_no_harm_when_it_goes_on() {
    let (_turn, services) = exclusive().await;
    let scene = Scene::new(services).await;
    let _other = scene.deployment.start(&["worker"]);
    let stalls = async {
        // At different moments of a rotation.
        for pause in [700, 1100, 1300] {
            scene.worker.signal("STOP");
            sleep(STALL).await;
            scene.worker.signal("CONT");
            sleep(Duration::from_millis(pause)).await;
        }
    };
    let tally = scene.in_use(stalls).await;
    assert_eq!(tally.unanswered, 0, "{tally:?}");
}

#[tokio::test]
async fn a_web_process_that_stood_still_answers_what_is_good_when_it_goes_on() {
    let (_turn, services) = exclusive().await;
    let scene = Scene::new(services).await;
    let stalls = async {
        for pause in [300, 900] {
            scene.web.signal("STOP");
            sleep(STALL).await;
            scene.web.signal("CONT");
            sleep(Duration::from_millis(pause)).await;
        }
    };
    scene.in_use(stalls).await;
}

#[tokio::test]
async fn when_all_processes_are_killed_those_that_follow_go_on() {
    let (_turn, services) = exclusive().await;
    let mut scene = Scene::new(services).await;
    let before = scene.claim(KNOWN[0]).await.unwrap();
    for _ in 0..3 {
        scene.web.signal("KILL");
        scene.worker.signal("KILL");
        (scene.web, scene.url) = scene.deployment.serve(&["web"]).await;
        scene.worker = scene.deployment.start(&["worker"]);
    }
    scene.deployment.try_login(&before.connection_string).await.unwrap();
    let tally = scene.in_use(async {}).await;
    assert_eq!(tally.unanswered, 0, "{tally:?}");
}
