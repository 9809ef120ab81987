//! What rules wish, as what the store makes.

use crate::Scheduler;
use model::{
    Event, Revision, Submitter, TaskId,
    message::{JsonText, NewMessage},
    task::{Approval, TaskKind, WaitReason},
};
use rules::{
    evaluate::Evaluation,
    wish::{CancelWhat, TaskWish},
};
use std::sync::Arc;
use store::{CancelWish, Dedupe, Judgement, NewCollect, NewOrigin, NewTask};

/// The judgement that an evaluation comes to. In shadow mode a rule's wishes are judged and not made.
pub(crate) fn judgement(
    scheduler: &Scheduler,
    revision: &Revision,
    event: &Event,
    generation: u32,
    evaluation: Evaluation,
) -> Judgement {
    let limits = evaluation.tasks.iter().filter_map(|wish| Some((wish.rule.clone(), wish.limits?))).collect();
    let tasks = evaluation.tasks.into_iter().filter(|wish| !wish.shadow);
    let tasks = tasks.map(|wish| new_task(scheduler, event, generation, wish)).collect();
    let cancels = evaluation
        .cancels
        .into_iter()
        .filter(|wish| !wish.shadow)
        .map(|wish| CancelWish { rule: wish.rule, what: cancel_what(wish.what) })
        .collect();
    let emits = evaluation
        .emits
        .into_iter()
        .filter(|wish| !wish.shadow)
        .map(|wish| NewMessage {
            subject: wish.rule.to_string(),
            order_key: format!("rule:{}", wish.rule),
            topic: wish.topic,
            data: JsonText::of(&wish.body),
            task: None,
            depth: event.depth,
            traceparent: event.traceparent.clone(),
        })
        .collect();
    // In shadow mode too: what comes of a window is judged when it is due, and then only shown.
    let collects = evaluation
        .collects
        .into_iter()
        .map(|wish| NewCollect {
            rule: wish.rule,
            key: wish.key,
            quiet: wish.quiet,
            at_most_every: wish.at_most_every,
        })
        .collect();
    let verdicts = evaluation.verdicts;
    Judgement { revision: revision.clone(), verdicts, tasks, cancels, emits, collects, limits }
}

fn cancel_what(what: CancelWhat) -> store::CancelWhat {
    match what {
        CancelWhat::Item(item) => store::CancelWhat::Item(item),
        CancelWhat::Group(group) => store::CancelWhat::Group(group),
    }
}

fn new_task(scheduler: &Scheduler, event: &Event, generation: u32, wish: TaskWish) -> NewTask {
    let key = wish.key(event, generation);
    let dedupe = wish.dedupe.map(|dedupe| Dedupe {
        // The key is taken within rule, entry and cell already.
        scope: wish.rule.to_string(),
        key: dedupe.key,
        window: dedupe.window,
    });
    let (kind, needs, wait) = if wish.repo.is_testflinger() {
        let (kind, needs) =
            TaskKind::testflinger(wish.inputs.clone(), &wish.queue, scheduler.settings().requeue_foreign);
        (kind, needs.and(&wish.needs), wish.approve.then_some(WaitReason::Approval))
    } else {
        let repo = Arc::unwrap_or_clone(wish.repo);
        let kind = TaskKind::Repo { repo, resolved: None, discover: wish.discover };
        (kind, wish.needs, Some(WaitReason::Resolving))
    };
    NewTask {
        id: TaskId::new(scheduler.ids().next()),
        key,
        kind,
        name: wish.task,
        submitter: Submitter::rule(&wish.rule),
        origin: NewOrigin::Rule {
            rule: wish.rule,
            revision: wish.revision,
            entry: wish.entry,
            cell: wish.cell,
        },
        item: wish.item,
        inputs: wish.inputs,
        queue: wish.queue,
        priority: wish.priority,
        needs,
        group: wish.group,
        batch: wish.batch,
        trust: wish.trust,
        secrets: wish.secrets,
        hold: None,
        approval: wish.approve.then_some(Approval::Needed),
        timeout_cap_seconds: wish.timeout_cap.map(|cap| cap.as_secs()),
        depth: event.depth,
        traceparent: event.traceparent.clone(),
        wait,
        dedupe,
    }
}
