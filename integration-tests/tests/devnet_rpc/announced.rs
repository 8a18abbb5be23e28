//! A driver that hears of new heads only by the node's announcements.

use super::*;

#[tokio::test]
async fn an_announced_head_is_acted_on_long_before_it_would_be_asked_for() {
    let world = World::new().await;
    let driver = world.driver("head_interval_ms = 3600000\npoll_interval_ms = 3600000").await;
    let life = async {
        while !world.has_landed().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
            // Each head is announced once, and the driver's own next look is an hour away.
            if world.message(MessageKind::PreCommit).await.is_some_and(|state| !matches!(state, MessageState::Wanted)) {
                world.advance(1);
            }
        }
    };
    tokio::select! {
        ended = driver.run() => panic!("{ended:?}"),
        () = life => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("{:?}", world.state().await),
    }
}
