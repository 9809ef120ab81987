//! What is told: the relay and the live stream.

use super::bed::{Bed, build, quick, until};
use async_trait::async_trait;
use events::{Outlet, OutletError, OutletHealth};
use model::{Position, message::Message};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};
use taskbot_scheduler::Settings;
use tokio::sync::watch;

/// A bus that remembers; `away` while it is not there.
#[derive(Default)]
struct Bus {
    told: Mutex<Vec<Message>>,
    away: Mutex<bool>,
}

#[async_trait]
impl Outlet for Bus {
    fn name(&self) -> &str {
        "bus"
    }
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), OutletError>> {
        if *self.away.lock().unwrap() {
            return messages.iter().map(|_| Err(OutletError::Unavailable("away".to_owned()))).collect();
        }
        self.told.lock().unwrap().extend_from_slice(messages);
        messages.iter().map(|_| Ok(())).collect()
    }
    fn health(&self) -> watch::Receiver<OutletHealth> {
        watch::Sender::default().subscribe()
    }
}

impl Bus {
    fn topics(&self) -> Vec<String> {
        self.told.lock().unwrap().iter().map(|message| message.message.topic.to_string()).collect()
    }
}

#[tokio::test]
async fn one_of_two_servers_tells_and_the_other_takes_over() {
    let mut bed = Bed::postgres().await;
    let bus = Arc::new(Bus::default());
    let named = |name: &str| Settings { server: name.to_owned(), ..quick() };
    let with_bus = |bus: &Arc<Bus>| {
        let bus = Arc::clone(bus);
        move |mut parts: taskbot_scheduler::Parts| {
            parts.outlet = Some(bus as Arc<dyn Outlet>);
            parts
        }
    };
    let one = bed.second(named("one"), with_bus(&bus)).await;
    let other = bed.second(named("other"), with_bus(&bus)).await;
    let stop = bed.run(&one, Vec::new());
    bed.run(&other, Vec::new());
    one.ingest(vec![build("a").into()]).await.unwrap();
    until("the first task to be told", || async {
        bus.topics().iter().any(|t| t == "taskbot.task.queued").then_some(())
    })
    .await;
    stop.cancel();
    other.ingest(vec![build("b").into()]).await.unwrap();
    until("the second task to be told", || async {
        (bus.topics().iter().filter(|topic| *topic == "taskbot.task.queued").count() == 2).then_some(())
    })
    .await;
    let told = bus.told.lock().unwrap().clone();
    let ids: BTreeSet<_> = told.iter().map(|message| message.id).collect();
    assert_eq!(ids.len(), told.len(), "told twice");
    assert!(told.is_sorted_by_key(|message| message.position), "out of order");
    bed.end().await;
}

#[tokio::test]
async fn while_the_bus_is_away_streams_go_on_and_nothing_is_lost() {
    let bus = Arc::new(Bus::default());
    let outlet = Arc::clone(&bus);
    let mut bed = Bed::with(quick(), |mut parts| {
        parts.outlet = Some(outlet as Arc<dyn Outlet>);
        parts
    })
    .await;
    *bus.away.lock().unwrap() = true;
    let mut live = bed.scheduler.follow(None).await.unwrap();
    bed.start();
    bed.take(build("a")).await;
    assert_eq!(live.next().await.unwrap().message.topic.as_str(), "taskbot.event.received");
    assert!(bus.topics().is_empty());
    *bus.away.lock().unwrap() = false;
    until("what waited", || async { bus.topics().contains(&"taskbot.task.queued".to_owned()).then_some(()) })
        .await;
    assert_eq!(bus.topics()[0], "taskbot.event.received");
    bed.end().await;
}

#[tokio::test]
async fn a_stream_resumes_after_its_position_and_says_when_it_cannot() {
    let mut bed = Bed::new().await;
    let mut live = bed.scheduler.follow(None).await.unwrap();
    bed.start();
    bed.take(build("a")).await;
    let first = live.next().await.unwrap();
    let second = live.next().await.unwrap();
    let mut again = bed.scheduler.follow(first.position).await.unwrap();
    assert!(!again.has_gap());
    assert_eq!(again.next().await.unwrap(), second);
    // Of a database that is no more.
    let mut strange = bed.scheduler.follow(Some(Position(1_000_000))).await.unwrap();
    assert!(strange.has_gap());
    bed.take(build("b")).await;
    let next = strange.next().await.unwrap();
    assert!(next.position.unwrap() > second.position.unwrap(), "it goes on with what comes");
    bed.end().await;
}
