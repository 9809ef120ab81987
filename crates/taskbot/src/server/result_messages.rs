//! Results told on the bus once more, in the words of ResultsDB: for those who listen to `resultsdb.result.new`.

use async_trait::async_trait;
use events::{Outlet, OutletError};
use model::{
    message::{JsonText, Message, NewMessage},
    sink::{Sink, SinkError},
    topic::Topic,
};
use results::sink::resultsdb::{RESULT_TOPIC, Words};
use serde_json::{Value, json};
use std::{fmt, sync::Arc};

/// A sink that publishes by the outlet.
pub(crate) struct ResultMessages {
    pub(crate) name: String,
    pub(crate) topic: Topic,
    pub(crate) words: Words,
    pub(crate) outlet: Arc<dyn Outlet>,
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
        let Some((result, mut told)) = self.words.of(message)? else { return Ok(()) };
        let base = self.words.public_url.as_deref().unwrap_or("").trim_end_matches('/');
        // What it tells is what its interface shows, not what it takes.
        told["id"] = json!(result.id);
        told["note"] = json!(result.note);
        told["href"] = json!(format!("{base}/api/v2.0/results/{}", result.id));
        told["groups"] = json!([]);
        told["testcase"] = json!({
            "name": result.testcase,
            "href": format!("{base}/api/v2.0/testcases/{}", result.testcase),
            "ref_url": Value::Null,
        });
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
