//! Sinks: order, places, retries and dead letters, each for itself.

use super::bed::{Bed, build, quick, until};
use async_trait::async_trait;
use model::{
    message::{Message, NewMessage},
    sink::{Sink, SinkError},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

/// Takes what it is told, and answers as it is told to.
#[derive(Debug, Default)]
struct Place {
    name: &'static str,
    had: Mutex<Vec<i64>>,
    tried: Mutex<u32>,
    answers: Mutex<VecDeque<SinkError>>,
    is_away: Mutex<bool>,
}

impl Place {
    fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, ..Self::default() })
    }

    fn had(&self) -> Vec<i64> {
        self.had.lock().unwrap().clone()
    }
}

#[async_trait]
impl Sink for Place {
    fn name(&self) -> &str {
        self.name
    }

    fn wants(&self, message: &NewMessage) -> bool {
        message.topic.as_str() == "taskbot.event.received"
    }

    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        *self.tried.lock().unwrap() += 1;
        if *self.is_away.lock().unwrap() {
            return Err(SinkError::Away("gone".to_owned()));
        }
        if let Some(error) = self.answers.lock().unwrap().pop_front() {
            return Err(error);
        }
        self.had.lock().unwrap().push(message.position.unwrap().0);
        Ok(())
    }
}

async fn bed_with(places: &[&Arc<Place>]) -> Bed {
    let sinks: Vec<Arc<dyn Sink>> = places.iter().map(|place| Arc::clone(place) as Arc<dyn Sink>).collect();
    Bed::with(quick(), |mut parts| {
        parts.sinks = sinks;
        parts
    })
    .await
}

/// Waits until the sinks have their places: what is told before that is not for them.
async fn placed(bed: &Bed, count: usize) {
    until("the sinks' places", || async { (bed.store.sinks().await.unwrap().len() == count).then_some(()) })
        .await;
}

#[tokio::test]
async fn one_that_is_away_holds_up_no_other_and_gets_all_in_order() {
    let (here, away) = (Place::new("here"), Place::new("away"));
    *away.is_away.lock().unwrap() = true;
    let mut bed = bed_with(&[&here, &away]).await;
    bed.start();
    placed(&bed, 2).await;
    for id in ["a", "b", "c"] {
        bed.take(build(id)).await;
    }
    until("one to have all", || async { (here.had().len() == 3).then_some(()) }).await;
    until("the other to be tried", || async { (*away.tried.lock().unwrap() > 0).then_some(()) }).await;
    let statuses = bed.scheduler.sink_statuses().await.unwrap();
    let said = until("it to be told", || async {
        bed.scheduler.sink_statuses().await.unwrap()[0].health.problem.clone()
    })
    .await;
    assert_eq!((statuses[0].place.name.as_str(), said.as_str()), ("away", "gone"));
    *away.is_away.lock().unwrap() = false;
    until("the other to have all", || async { (away.had().len() == 3).then_some(()) }).await;
    assert_eq!(away.had(), here.had());
    assert!(here.had().is_sorted());
    until("no problem to be left", || async {
        let statuses = bed.scheduler.sink_statuses().await.unwrap();
        (statuses[0].health.problem.is_none() && statuses.iter().all(|sink| sink.configured)).then_some(())
    })
    .await;
    bed.end().await;
}

#[tokio::test]
async fn what_is_refused_lies_with_the_dead_letters_and_can_go_there_again() {
    let place = Place::new("picky");
    place.answers.lock().unwrap().push_back(SinkError::Refused("not this".to_owned()));
    let mut bed = bed_with(&[&place]).await;
    bed.start();
    placed(&bed, 1).await;
    bed.take(build("a")).await;
    bed.take(build("b")).await;
    until("the second", || async { (place.had().len() == 1).then_some(()) }).await;
    let letters = bed.store.dead_letters(None, 10).await.unwrap().items;
    assert_eq!((letters.len(), letters[0].source.as_str()), (1, "sink:picky"));
    assert_eq!((letters[0].reason.as_str(), letters[0].deliveries), ("not this", 1));
    let letter = bed.store.dead_letter(letters[0].id).await.unwrap();
    place.answers.lock().unwrap().push_back(SinkError::Refused("still not".to_owned()));
    let error = bed.scheduler.redeliver(&letter).await.unwrap_err().to_string();
    assert!(error.contains("still not"), "{error}");
    bed.scheduler.redeliver(&letter).await.unwrap();
    assert_eq!(place.had().len(), 2);
    assert!(bed.store.dead_letters(None, 10).await.unwrap().items.is_empty());
    bed.end().await;
}

#[tokio::test]
async fn a_stopped_server_goes_on_where_it_was() {
    let place = Place::new("steady");
    let mut bed = bed_with(&[&place]).await;
    let stop = bed.start();
    placed(&bed, 1).await;
    bed.take(build("a")).await;
    until("the first", || async { (place.had().len() == 1).then_some(()) }).await;
    stop.cancel();
    let other = Arc::clone(&place) as Arc<dyn Sink>;
    let second = bed
        .second(quick(), |mut parts| {
            parts.sinks = vec![other];
            parts
        })
        .await;
    second.activate_rules(super::bed::files(super::bed::RULES), "test", "tester").await.unwrap();
    bed.take(build("b")).await;
    bed.run(&second, Vec::new());
    until("the second", || async { (place.had().len() == 2).then_some(()) }).await;
    assert!(place.had().is_sorted() && place.had()[0] < place.had()[1], "each once: {:?}", place.had());
    bed.end().await;
}
