//! paddles' nodes and queues: what teuthology's lock keeper, scheduler and dispatcher send.

use super::{
    bed::{Bed, until},
    paddles::{ask, check, get, is_time, names, on_both, post_job, refused},
};
use reqwest::Method;
use serde_json::{Value, json};

on_both![nodes_and_locks, queues];

async fn nodes_and_locks(bed: &Bed) {
    let node = |name: &str, up: bool| json!({"name": name, "machine_type": "mira", "up": up, "os_type": "ubuntu", "os_version": "22.04", "arch": "x86_64", "odd": 1});
    for (name, up) in [("mira1", true), ("mira2", true), ("mira3", false)] {
        check(bed, "POST", "/nodes/", node(name, up), 200, json!({})).await;
    }
    check(
        bed,
        "POST",
        "/nodes/",
        json!({"name": "plana1", "machine_type": "plana", "up": true}),
        200,
        json!({}),
    )
    .await;
    refused(bed, "POST", "/nodes/", node("mira1", true), 400, "Node with name mira1 already exists").await;
    refused(bed, "POST", "/nodes/", json!({"up": true}), 400, "could not find required key: 'name'").await;
    let plain = json!({
        "name": "mira1", "description": null, "up": true, "machine_type": "mira", "is_vm": false, "vm_host": null,
        "os_type": "ubuntu", "os_version": "22.04", "arch": "x86_64", "locked": false, "locked_since": null,
        "locked_by": null, "mac_address": null, "ssh_pub_key": null,
    });
    check(bed, "GET", "/nodes/mira1/", Value::Null, 200, plain.clone()).await;
    refused(bed, "GET", "/nodes/x/", Value::Null, 404, "node not found").await;
    check(bed, "GET", "/nodes/machine_types/", Value::Null, 200, json!(["mira", "plana"])).await;
    let listed = async |query: &str| names(&get(bed, &format!("/nodes/{query}")).await).join(" ");
    assert_eq!(listed("").await, "mira1 mira2 mira3 plana1");
    assert_eq!(listed("?machine_type=mira|vps&up=True").await, "mira1 mira2");
    assert_eq!(listed("?os_type=ubuntu&os_version=22.04&locked=False&count=1").await, "mira1");
    refused(bed, "GET", "/nodes/?count=x", Value::Null, 400, "count must be an integer").await;
    check(bed, "PUT", "/nodes/mira3/", json!({"description": "broken", "up": false}), 200, json!({})).await;
    assert_eq!(get(bed, "/nodes/mira3/").await["description"], "broken");
    refused(bed, "PUT", "/nodes/x/", json!({"up": false}), 404, "attempted to update a non-existent node")
        .await;

    let lock =
        |by: Option<&str>| json!({"name": "mira1", "locked": true, "locked_by": by, "description": "a run"});
    let unlock =
        |by: &str, description: &str| json!({"locked": false, "locked_by": by, "description": description});
    let shown = |locked: bool, by: Option<&str>| json!({"name": "mira1", "locked": locked, "locked_by": by, "machine_type": "mira", "is_vm": false});
    refused(bed, "PUT", "/nodes/mira1/lock/", lock(None), 400, "Cannot lock without specifying locked_by")
        .await;
    check(bed, "PUT", "/nodes/mira1/lock", lock(Some("me@host")), 200, shown(true, Some("me@host"))).await;
    refused(bed, "POST", "/nodes/mira1/lock/", lock(Some("you")), 403, "Cannot lock an already-locked node")
        .await;
    refused(bed, "PUT", "/nodes/mira1/", lock(Some("you")), 403, "Cannot lock an already-locked node").await;
    let now = get(bed, "/nodes/mira1/").await;
    assert!(is_time(&now["locked_since"]) && now["description"] == "a run", "{now}");
    assert_eq!(listed("?locked_by=me@host").await, "mira1");
    refused(
        bed,
        "PUT",
        "/nodes/mira1/lock/",
        unlock("you", "a run"),
        403,
        "Cannot unlock - locked_by values must match",
    )
    .await;
    refused(
        bed,
        "PUT",
        "/nodes/mira1/lock/",
        unlock("me@host", "another"),
        403,
        "Cannot unlock - description values must match",
    )
    .await;
    check(bed, "PUT", "/nodes/mira1/lock/", unlock("me@host", "a run"), 200, shown(false, None)).await;
    let mut free = plain;
    free["description"] = json!("a run");
    check(bed, "GET", "/nodes/mira1/", Value::Null, 200, free).await;
    locks_as_they_are_asked_for(bed).await;
    let only = "this URI only supports PUT and POST requests but GET was attempted";
    refused(bed, "GET", "/nodes/mira1/lock/", Value::Null, 400, only).await;
    refused(bed, "GET", "/nodes/x/lock/", Value::Null, 404, "node not found").await;
    for many in ["/nodes/lock_many/", "/nodes/unlock_many/"] {
        refused(bed, "GET", many, Value::Null, 400, "this URI only supports POST requests").await;
    }
    assert_eq!(ask(bed, Method::GET, "/nodes/mira1/lock", &Value::Null).await.0, 400);
    refused(bed, "PUT", "/nodes/x/lock/", lock(Some("me")), 404, "node not found").await;

    let many = |count: i64, kinds: &str| json!({"count": count, "locked_by": "me", "machine_type": kinds, "description": "a run"});
    refused(bed, "POST", "/nodes/lock_many/", many(4, "mira|plana"), 503, "only 3 nodes available").await;
    refused(bed, "POST", "/nodes/lock_many/", many(0, "mira"), 400, "cannot lock less than 1 node").await;
    refused(
        bed,
        "POST",
        "/nodes/lock_many/",
        json!({"count": 1}),
        400,
        "must pass these fields: count, locked_by, machine_type, description",
    )
    .await;
    let (status, locked) = ask(bed, Method::POST, "/nodes/lock_many/", &many(2, "mira")).await;
    assert_eq!((status, names(&locked)), (200, vec!["mira1", "mira2"]));
    assert!(
        locked
            .as_array()
            .unwrap()
            .iter()
            .all(|node| node["locked_by"] == "me" && node["description"] == "a run")
    );
    let back = |names: &[&str], by: &str| json!({"names": names, "locked_by": by});
    refused(
        bed,
        "POST",
        "/nodes/unlock_many/",
        back(&["mira1", "x"], "me"),
        400,
        "Could not find all nodes!",
    )
    .await;
    refused(
        bed,
        "POST",
        "/nodes/unlock_many/",
        back(&["mira1", "mira2"], "you"),
        403,
        "Cannot unlock - locked_by values must match",
    )
    .await;
    refused(
        bed,
        "POST",
        "/nodes/unlock_many/",
        json!({"names": ["mira1"], "locked_by": "me", "more": 1}),
        400,
        "must pass these fields: names, locked_by",
    )
    .await;
    assert_eq!(listed("?locked=true").await, "mira1 mira2");
    let (status, unlocked) =
        ask(bed, Method::POST, "/nodes/unlock_many/", &back(&["mira1", "mira2"], "me")).await;
    assert_eq!((status, names(&unlocked)), (200, vec!["mira1", "mira2"]));

    post_job(bed, "r", json!({"job_id": 1, "name": "r", "status": "pass", "targets": {"ubuntu@mira1": "key", "ubuntu@new.example.org": "key"}})).await;
    post_job(
        bed,
        "r",
        json!({"job_id": 2, "name": "r", "status": "fail", "targets": {"ubuntu@mira1": "key"}}),
    )
    .await;
    let on = async |query: &str| {
        let jobs = get(bed, &format!("/nodes/mira1/jobs/{query}")).await;
        jobs.as_array()
            .unwrap()
            .iter()
            .map(|job| job["job_id"].as_str().unwrap().to_owned())
            .collect::<String>()
    };
    assert_eq!(on("").await, "21");
    assert_eq!(on("?status=pass").await, "1");
    assert_eq!(on("?name=r&count=1&page=2").await, "1");
    assert_eq!(get(bed, "/nodes/new.example.org/").await["locked"], false);
    let counts = |pass: u32, fail: u32| json!({"pass": pass, "fail": fail, "queued": 0, "running": 0, "waiting": 0, "dead": 0, "unknown": 0});
    check(bed, "GET", "/nodes/mira1/job_stats/", Value::Null, 200, counts(1, 1)).await;
    check(bed, "GET", "/nodes/plana1/job_stats/", Value::Null, 200, counts(0, 0)).await;
    // Those with the fewest jobs first.
    let stats = bed.request(Method::GET, "/compat/paddles/nodes/job_stats/").send().await.unwrap();
    assert_eq!(stats.text().await.unwrap(), r#"{"new.example.org":{"pass":1},"mira1":{"fail":1,"pass":1}}"#);
    let days = "since_days must be a positive integer";
    refused(bed, "GET", "/nodes/job_stats/?since_days=0", Value::Null, 400, days).await;
    check(
        bed,
        "GET",
        "/nodes/job_stats/?machine_type=mira&since_days=3",
        Value::Null,
        200,
        json!({"mira1": {"pass": 1, "fail": 1}}),
    )
    .await;
    refused(bed, "GET", "/nodes/x/jobs/", Value::Null, 404, "node not found").await;
    check(bed, "DELETE", "/nodes/mira3/", Value::Null, 200, json!({})).await;
    refused(bed, "DELETE", "/nodes/mira3/", Value::Null, 404, "attempted to delete a non-existent node")
        .await;
}

/// What the lock keeper asks for beside locking and giving back.
async fn locks_as_they_are_asked_for(bed: &Bed) {
    let lock = "/nodes/lock1/lock/";
    let state = |locked: bool, by: Option<&str>| json!({"name": "lock1", "locked": locked, "locked_by": by, "machine_type": "l", "is_vm": false});
    let new = json!({"name": "lock1", "machine_type": "l", "up": true, "os_version": "22.04"});
    check(bed, "POST", "/nodes/", new, 200, json!({})).await;
    let mine = json!({"name": "lock1", "locked": true, "locked_by": "me", "description": "/a/run/1"});
    for _ in 0..2 {
        // Who has it for the same may ask again.
        check(bed, "PUT", lock, mine.clone(), 200, state(true, Some("me"))).await;
    }
    let other = json!({"locked": true, "locked_by": "me", "description": "/a/run/2"});
    refused(bed, "PUT", lock, other, 403, "Cannot lock an already-locked node").await;
    let nobody = "Cannot unlock without specifying locked_by";
    refused(bed, "PUT", lock, json!({"locked": false}), 400, nobody).await;
    check(bed, "PUT", lock, json!({"locked": null, "up": false}), 200, state(true, Some("me"))).await;
    assert_eq!(get(bed, "/nodes/lock1/").await["up"], false);
    check(bed, "PUT", "/nodes/lock1/", json!({"up": true}), 200, json!({})).await;
    let back = json!({"locked": false, "locked_by": "me", "description": ""});
    check(bed, "PUT", lock, back, 200, state(false, None)).await;
    // A version may be a number.
    let many = |version: f64| json!({"count": 1, "locked_by": "me", "machine_type": "l", "description": null, "os_version": version});
    refused(bed, "POST", "/nodes/lock_many/", many(8.5), 503, "only 0 nodes available").await;
    let (status, locked) = ask(bed, Method::POST, "/nodes/lock_many/", &many(22.5)).await;
    assert_eq!(status, 503, "{locked}");
    check(bed, "PUT", "/nodes/lock1/", json!({"os_version": 22.5}), 200, json!({})).await;
    let (status, locked) = ask(bed, Method::POST, "/nodes/lock_many/", &many(22.5)).await;
    assert_eq!((status, &locked[0]["description"]), (200, &Value::Null), "{locked}");
    let none = json!({"count": 1, "locked_by": "me", "machine_type": "", "description": null});
    refused(bed, "POST", "/nodes/lock_many/", none, 400, "must specify machine_type").await;
    // One that is new may be locked by nobody.
    let new = json!({"name": "lock2", "machine_type": "l", "up": true, "locked": true});
    check(bed, "POST", "/nodes/", new, 200, json!({})).await;
    refused(bed, "PUT", "/nodes/lock2/lock/", mine, 403, "Cannot lock an already-locked node").await;
    for node in ["lock1", "lock2"] {
        check(bed, "DELETE", &format!("/nodes/{node}/"), Value::Null, 200, json!({})).await;
    }
}

async fn queues(bed: &Bed) {
    check(bed, "GET", "/queue/", Value::Null, 200, json!([])).await;
    check(bed, "POST", "/queue/", json!({"queue": "mira"}), 200, json!({})).await;
    refused(bed, "POST", "/queue/", json!({"queue": "mira"}), 400, "Queue mira already exists").await;
    refused(bed, "POST", "/queue/", json!({}), 400, "could not find required key: 'queue'").await;
    let free = json!({"queue": "mira", "paused": false, "paused_by": null, "paused_since": null, "paused_until": null});
    check(bed, "GET", "/queue/?machine_type=mira", Value::Null, 200, json!([free])).await;
    check(bed, "GET", "/queue/?machine_type=x", Value::Null, 200, json!([])).await;
    check(bed, "GET", "/queue/pop_queue?queue=mira", Value::Null, 200, Value::Null).await;
    check(bed, "GET", "/queue/pop_queue?queue=unknown", Value::Null, 200, Value::Null).await;
    for (job_id, priority, user) in [(1, 100, "me"), (2, 50, "me"), (3, 50, "you")] {
        post_job(bed, "r", json!({"job_id": job_id, "status": "queued", "queue": "mira", "priority": priority, "user": user})).await;
    }
    let pop = async || get(bed, "/queue/pop_queue?queue=mira").await;
    let first = pop().await;
    assert_eq!(
        (&first["job_id"], &first["status"], &first["roles"]),
        (&json!("2"), &json!("queued"), &json!({}))
    );
    // Each is handed out once.
    assert_eq!(pop().await["job_id"], "3");
    check(bed, "PUT", "/runs/r/jobs/2/", json!({"status": "running"}), 200, json!({})).await;
    let mut stats = free.clone();
    stats["queued_jobs"] = json!(2);
    check(bed, "POST", "/queue/stats/", json!({"queue": "mira"}), 200, stats.clone()).await;
    check(bed, "GET", "/queue/stats/?queue=mira", Value::Null, 200, stats).await;
    let queued = async |query: &str| {
        let (status, jobs) =
            ask(bed, Method::POST, &format!("/queue/queued_jobs/{query}"), &json!({"queue": "mira"})).await;
        assert_eq!(status, 200, "{jobs}");
        jobs.as_array()
            .unwrap()
            .iter()
            .map(|job| job["job_id"].as_str().unwrap().to_owned())
            .collect::<String>()
    };
    assert_eq!(queued("").await, "31");
    assert_eq!(queued("?user=you&run_name=r").await, "3");
    assert_eq!(queued("?run_name=other").await, "");
    let nowhere = "specified queue does not exist";
    refused(bed, "GET", "/queue/queued_jobs/?queue=x", Value::Null, 400, nowhere).await;
    refused(bed, "GET", "/queue/stats/?queue=x", Value::Null, 400, nowhere).await;
    let by = "Cannot pause without specifying paused_by";
    refused(bed, "PUT", "/queue/", json!({"queue": "mira", "pause_duration": 5}), 400, by).await;
    check(bed, "POST", "/queue/", json!({"queue": "short"}), 200, json!({})).await;
    let short = json!({"queue": "short", "paused_by": "me", "pause_duration": 0.01});
    check(bed, "PUT", "/queue/", short, 200, json!({})).await;
    until("a pause of a part of a second to be over", || async {
        let queue = get(bed, "/queue/?machine_type=short").await;
        (queue[0]["paused"] == false).then_some(())
    })
    .await;
    let pause = |seconds: Value| json!({"queue": "mira", "paused_by": "me", "pause_duration": seconds});
    refused(
        bed,
        "PUT",
        "/queue/",
        json!({"queue": "x", "paused_by": "me", "pause_duration": 60}),
        400,
        "specified queue does not exist",
    )
    .await;
    check(bed, "PUT", "/queue/", pause(json!(3600)), 200, json!({})).await;
    refused(bed, "PUT", "/queue/", pause(json!("60")), 403, "Cannot pause an already-paused queue").await;
    refused(
        bed,
        "GET",
        "/queue/pop_queue?queue=mira",
        Value::Null,
        503,
        "queue is paused, cannot retrieve job",
    )
    .await;
    let paused = get(bed, "/queue/?paused_by=me").await;
    assert_eq!((&paused[0]["paused"], &paused[0]["queue"]), (&json!(true), &json!("mira")));
    assert!(is_time(&paused[0]["paused_since"]) && is_time(&paused[0]["paused_until"]), "{paused}");
    // Our own view of it.
    let native = bed.get("/api/v1/queues").await;
    let native = native.as_array().unwrap().iter().find(|queue| queue["name"] == "mira").unwrap();
    assert_eq!(
        (&native["paused"]["by"], &native["queued"], &native["running"]),
        (&json!("me"), &json!(2), &json!(1))
    );
    check(bed, "PUT", "/queue/", json!({"queue": "mira", "paused_by": "me"}), 200, json!({})).await;
    assert_eq!(pop().await["job_id"], "1");
    refused(bed, "PUT", "/queue/", pause(json!("long")), 400, "pause_duration must be a number of seconds")
        .await;
}
