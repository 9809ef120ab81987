//! Random walks of the queue against a simple model.

use crate::harness::*;
use model::{
    TaskId,
    attempt::AttemptRef,
    protocol::{HeartbeatEntry, Held, Order},
    task::Stop,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use std::collections::BTreeMap;
use store::{Finished, StoreError};

/// What can happen.
#[derive(Debug, Clone)]
enum Step {
    Make { priority: i32 },
    Claim { max: u32 },
    Beat { which: usize },
    Finish { which: usize, outcome: &'static str },
    Zombie { which: usize },
    Cancel { which: usize },
    Pass { ms: i64 },
    Reap,
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![Just("passed"), Just("failed"), Just("error(infra)"), Just("error(task)")];
    prop_oneof![
        3 => (-1..2).prop_map(|priority| Step::Make { priority }),
        3 => (1..4_u32).prop_map(|max| Step::Claim { max }),
        1 => any::<usize>().prop_map(|which| Step::Beat { which }),
        3 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Step::Finish { which, outcome }),
        1 => any::<usize>().prop_map(|which| Step::Zombie { which }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        1 => prop_oneof![Just(6_100_i64), Just(31_000), Just(70_000)].prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Reap),
    ]
}

/// A task as the model sees it.
#[derive(Debug, Clone)]
enum Sim {
    Queued { from_ms: i64, attempts: u32 },
    Running { attempt: AttemptRef, until_ms: i64, stop: bool },
    Final(&'static str),
}

/// The model: what each task must be, and fences that are over.
#[derive(Default)]
struct Model {
    now_ms: i64,
    tasks: BTreeMap<TaskId, (i32, Sim)>,
    old: Vec<(TaskId, AttemptRef)>,
}

fn nth<T: Copy>(list: &[T], which: usize) -> Option<T> {
    (!list.is_empty()).then(|| list[which % list.len()])
}

impl Model {
    fn running(&self) -> Vec<(TaskId, AttemptRef)> {
        let running = self.tasks.iter().filter_map(|(id, (_, sim))| match sim {
            Sim::Running { attempt, .. } => Some((*id, *attempt)),
            _ => None,
        });
        running.collect()
    }

    /// What an attempt that ends so leads to, by the policy of tasks without a task file.
    fn end(&mut self, id: TaskId, outcome: &'static str) {
        let now_ms = self.now_ms;
        let Some((_, sim)) = self.tasks.get_mut(&id) else { panic!("no task") };
        let Sim::Running { attempt, stop, .. } = *sim else { panic!("not running") };
        self.old.push((id, attempt));
        let delay_ms = match outcome {
            "error(infra)" if attempt.attempt <= 2 => Some(5_000 << (attempt.attempt - 1)),
            "error(lost)" if attempt.attempt <= 2 => Some(0),
            _ => None,
        };
        *sim = match delay_ms {
            _ if stop => Sim::Final("cancelled"),
            Some(delay_ms) => Sim::Queued { from_ms: now_ms + delay_ms, attempts: attempt.attempt },
            None => Sim::Final(outcome),
        };
    }

    async fn step(&mut self, bed: &Bed, step: &Step) {
        match *step {
            Step::Make { priority } => {
                let task = bed.queue(&[store::NewTask { priority, ..ready("a") }]).await.remove(0);
                self.tasks.insert(task.id, (priority, Sim::Queued { from_ms: 0, attempts: 0 }));
            }
            Step::Claim { max } => self.claim(bed, max).await,
            Step::Beat { which } => {
                let Some((task, attempt)) = nth(&self.running(), which) else { return };
                let entry =
                    HeartbeatEntry { held: Held { task, attempt }, phase: model::Phase::Run, kept: None };
                let orders = bed.store.heartbeat(&"w1".into(), &[entry], LEASE_MS).await.unwrap();
                let Some((_, Sim::Running { until_ms, stop, .. })) = self.tasks.get_mut(&task) else {
                    panic!()
                };
                *until_ms = self.now_ms + LEASE_MS as i64;
                assert_eq!(matches!(orders[..], [Order::Stop { .. }]), *stop);
                assert!(!matches!(orders[..], [Order::Fenced]));
            }
            Step::Finish { which, outcome } => {
                let Some((task, attempt)) = nth(&self.running(), which) else { return };
                let done = bed.store.finish(task, &finish(attempt, outcome)).await.unwrap();
                assert!(matches!(done, Finished::Accepted(_)), "{done:?}");
                self.end(task, outcome);
            }
            Step::Zombie { which } => {
                let Some((task, attempt)) = nth(&self.old, which) else { return };
                let done = bed.store.finish(task, &finish(attempt, "skipped")).await.unwrap();
                assert_eq!(done, Finished::Fenced);
            }
            Step::Cancel { which } => {
                let ids: Vec<_> = self.tasks.keys().copied().collect();
                let Some(id) = nth(&ids, which) else { return };
                let stopped = bed.store.stop(id, &Stop::Cancel { who: "ada".to_owned(), why: None }).await;
                match self.tasks.get_mut(&id) {
                    Some((_, Sim::Final(_))) => assert!(matches!(stopped, Err(StoreError::Conflict(_)))),
                    Some((_, Sim::Running { stop, .. })) => {
                        assert_eq!(stopped.unwrap().changed, !*stop);
                        *stop = true;
                    }
                    Some((_, sim)) => {
                        assert!(stopped.unwrap().changed);
                        *sim = Sim::Final("cancelled");
                    }
                    None => panic!("no task"),
                }
            }
            Step::Pass { ms } => {
                bed.pass(ms).await;
                self.now_ms += ms;
            }
            Step::Reap => {
                let mut reaped: Vec<_> =
                    bed.store.reap(1000).await.unwrap().iter().map(|held| held.task).collect();
                reaped.sort_unstable();
                let lost: Vec<_> = self
                    .tasks
                    .iter()
                    .filter(|(_, (_, sim))| matches!(sim, Sim::Running { until_ms, .. } if *until_ms < self.now_ms))
                    .map(|(id, _)| *id)
                    .collect();
                assert_eq!(reaped, lost);
                for id in lost {
                    self.end(id, "error(lost)");
                }
            }
        }
    }

    async fn claim(&mut self, bed: &Bed, max: u32) {
        let claimed = bed.claim("w1", max).await;
        let mut ready: Vec<_> = self
            .tasks
            .iter()
            .filter(|(_, (_, sim))| matches!(sim, Sim::Queued { from_ms, .. } if *from_ms <= self.now_ms))
            .map(|(_, (priority, _))| *priority)
            .collect();
        ready.sort_unstable_by(|a, b| b.cmp(a));
        ready.truncate(max as usize);
        let priorities: Vec<_> = claimed.iter().map(|one| one.task.priority).collect();
        assert_eq!(priorities, ready);
        for one in claimed {
            let Some((_, sim)) = self.tasks.get_mut(&one.task.id) else { panic!("no task") };
            let Sim::Queued { from_ms, attempts } = *sim else { panic!("{sim:?} was handed out") };
            assert!(from_ms <= self.now_ms, "before its time");
            assert_eq!(one.attempt.attempt, attempts + 1);
            *sim =
                Sim::Running { attempt: one.attempt, until_ms: self.now_ms + LEASE_MS as i64, stop: false };
        }
    }

    async fn compare(&self, bed: &Bed) {
        for task in bed.all_tasks().await {
            let (_, sim) = &self.tasks[&task.id];
            let expect = match sim {
                Sim::Queued { .. } => "queued".to_owned(),
                Sim::Running { .. } => format!("running({})", phase_of(&task)),
                Sim::Final("cancelled") => "cancelled".to_owned(),
                Sim::Final(outcome) => format!("finished({outcome})"),
            };
            assert_eq!(task.state.label(), expect);
        }
        for (id, attempt) in self.running() {
            assert!(bed.store.holds(id, attempt).await.unwrap());
        }
        for (id, attempt) in &self.old {
            assert!(!bed.store.holds(*id, *attempt).await.unwrap());
        }
    }
}

fn phase_of(task: &model::Task) -> &'static str {
    match &task.state {
        model::TaskState::Running { phase, .. } => phase.as_str(),
        _ => "-",
    }
}

fn walk(kind: Kind, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let walks = prop::collection::vec(step(), 1..60);
    let outcome = TestRunner::new(config).run(&walks, |steps| {
        runtime.block_on(async {
            let bed = Bed::new(kind).await;
            let mut model = Model::default();
            for step in &steps {
                model.step(&bed, step).await;
            }
            model.compare(&bed).await;
            bed.end().await;
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn random_walks_on_sqlite() {
    walk(Kind::Sqlite, 24);
}

#[test]
fn random_walks_on_postgres() {
    walk(Kind::Postgres, 8);
}
