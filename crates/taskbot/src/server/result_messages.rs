//! Results told on the bus once more, in the words of ResultsDB: for those who listen to `resultsdb.result.new`.

use async_trait::async_trait;
use events::{Outlet, OutletError};
use model::{
    message::{JsonText, Message, NewMessage},
    sink::{Sink, SinkError},
    topic::Topic,
};
use results::sink::resultsdb::{RESULT_TOPIC, Words};
use std::{fmt, sync::Arc};
use store::Store;

/// A sink that publishes by the outlet.
pub(crate) struct ResultMessages {
    pub(crate) name: String,
    pub(crate) topic: Topic,
    pub(crate) words: Words,
    pub(crate) outlet: Arc<dyn Outlet>,
    /// Where the results are.
    pub(crate) store: Arc<dyn Store>,
    /// What links begin with.
    pub(crate) base: String,
}

impl fmt::Debug for ResultMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultMessages")
            .field("name", &self.name)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Sink for ResultMessages {
    fn name(&self) -> &str {
        &self.name
    }

    fn wants(&self, message: &NewMessage) -> bool {
        message.topic.as_str() == RESULT_TOPIC
    }

    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        let Some(result) = self.words.of(message)? else { return Ok(()) };
        // As its interface shows it: with its groups, its reporter's link and word.
        let entry = self.store.entry(result.id).await.map_err(|error| match error {
            error if error.is_transient() => SinkError::Away(error.to_string()),
            error => SinkError::Refused(error.to_string()),
        })?;
        let told = api::resultsdb::told(&entry, &self.base, &self.words.extra_outcomes);
        // Published under an id of its own: the bus takes the same id for the same message.
        let id = model::ids::OutboxId(-message.id.0);
        let message = Message {
            id,
            message: NewMessage {
                topic: self.topic.clone(),
                data: JsonText::of(&told),
                ..message.message.clone()
            },
            ..message.clone()
        };
        match self.outlet.publish(std::slice::from_ref(&message)).await.into_iter().next() {
            Some(Ok(())) => Ok(()),
            Some(Err(OutletError::Refused(why))) => Err(SinkError::Broken(why)),
            Some(Err(error)) => Err(SinkError::Away(error.to_string())),
            None => Err(SinkError::Away("the bus said nothing".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::OutletHealth;
    use model::{Outcome, SystemClock, SystemIds, ids::OutboxId};
    use serde_json::json;
    use std::{collections::BTreeMap, sync::Mutex};
    use store::{NewEntry, ResultGroup, ResultsDb as _, Testcase, sqlite::SqliteStore};
    use tokio::sync::watch;

    /// A bus that keeps what it is told.
    #[derive(Default)]
    struct Bus(Mutex<Vec<Message>>);

    #[async_trait]
    impl Outlet for Bus {
        fn name(&self) -> &str {
            "bus"
        }
        async fn publish(&self, messages: &[Message]) -> Vec<Result<(), OutletError>> {
            self.0.lock().unwrap().extend_from_slice(messages);
            messages.iter().map(|_| Ok(())).collect()
        }
        fn health(&self) -> watch::Receiver<OutletHealth> {
            watch::Sender::default().subscribe()
        }
    }

    fn told_of(id: i64) -> Message {
        let result = json!({
            "id": id, "testcase": "dist.rpmlint", "outcome": "info", "created_at": "2026-11-21T10:00:00Z",
        });
        let message = NewMessage {
            topic: RESULT_TOPIC.into(),
            subject: "s".to_owned(),
            order_key: "k".to_owned(),
            data: JsonText::of(&result),
            task: None,
            depth: 0,
            traceparent: None,
        };
        Message { id: OutboxId(7), created_at: chrono::DateTime::UNIX_EPOCH, message, position: None }
    }

    #[tokio::test]
    async fn a_result_is_told_as_its_interface_shows_it() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            SqliteStore::open(&folder.path().join("db"), Arc::new(SystemClock), Arc::new(SystemIds)).await;
        let store = Arc::new(store.unwrap());
        let group =
            |id: &str| ResultGroup { id: id.to_owned(), description: None, ref_url: None, results: 0 };
        let entry = NewEntry {
            testcase: Testcase { name: "dist.rpmlint".to_owned(), ref_url: Some("https://docs".to_owned()) },
            outcome: Outcome::Info,
            said: "QUEUED".to_owned(),
            note: None,
            ref_url: Some("https://ci/1".to_owned()),
            data: BTreeMap::from([("item".to_owned(), vec!["a-1-1".to_owned()])]),
            groups: vec![group("g1"), group("g2")],
            at: Some("2026-11-21T10:00:00Z".parse().unwrap()),
            who: "me".to_owned(),
        };
        let id = store.add_entries(&[entry]).await.unwrap()[0].id.0;
        let bus = Arc::new(Bus::default());
        let sink = ResultMessages {
            name: "bus".to_owned(),
            topic: "resultsdb.result.new".into(),
            words: Words { all: true, ..Words::default() },
            outlet: bus.clone(),
            store,
            base: "http://127.0.0.1:7400".to_owned(),
        };
        sink.deliver(&told_of(id)).await.unwrap();
        let told = bus.0.lock().unwrap().remove(0);
        assert_eq!((told.id.0, told.message.topic.as_str()), (-7, "resultsdb.result.new"));
        let base = "http://127.0.0.1:7400/api/v2.0";
        let expect = json!({
            "id": id, "href": format!("{base}/results/{id}"), "outcome": "QUEUED", "note": null,
            "ref_url": "https://ci/1", "groups": ["g1", "g2"], "data": {"item": ["a-1-1"]},
            "submit_time": "2026-11-21T10:00:00",
            "testcase": {
                "name": "dist.rpmlint", "ref_url": "https://docs", "href": format!("{base}/testcases/dist.rpmlint"),
            },
        });
        assert_eq!(told.message.data.value(), expect);
        assert!(matches!(sink.deliver(&told_of(id + 1)).await, Err(SinkError::Refused(_))));
    }
}
