//! Jobs as CouchDB shows them, without their secrets.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::job::{Happened, Job, State};

/// The format of CouchDB's replication ids that ours stands beside.
const REPLICATION_ID_VERSION: u32 = 4;

/// As in `_scheduler`.
fn iso(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let (date, time) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// As in the answer of `_replicate` (RFC 9110, section 5.6.7).
fn http_date(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
    let (day, year) = (at.day(), at.year());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!(
        "{}, {day:02} {} {year:04} {hour:02}:{minute:02}:{second:02} GMT",
        &weekday[..3],
        &month[..3]
    )
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The answer of `_replicate` to a replication that is complete.
pub(in crate::server) fn completed(job: &Job) -> Value {
    let (tally, ended) = (job.tally(), job.stage().since);
    let mut answer = json!({
        "ok": true,
        "session_id": job.session_id,
        "source_last_seq": tally.through_seq,
        "replication_id_version": REPLICATION_ID_VERSION,
        "history": [{
            "session_id": job.session_id,
            "start_time": http_date(job.started),
            "end_time": http_date(ended),
            "start_last_seq": if tally.start_seq.is_empty() { "0" } else { &tally.start_seq },
            "end_last_seq": tally.through_seq,
            "recorded_seq": tally.through_seq,
            "missing_checked": tally.revs_checked,
            "missing_found": tally.revs_missing,
            "docs_read": tally.docs_read,
            "docs_written": tally.docs_written,
            "doc_write_failures": tally.doc_write_failures,
        }],
    });
    if tally.start_seq == tally.through_seq {
        answer["no_changes"] = json!(true);
    }
    answer
}

fn info(job: &Job) -> Value {
    let tally = job.tally();
    json!({
        "revisions_checked": tally.revs_checked,
        "missing_revisions_found": tally.revs_missing,
        "docs_read": tally.docs_read,
        "docs_written": tally.docs_written,
        "changes_pending": tally.pending,
        "doc_write_failures": tally.doc_write_failures,
        "checkpointed_source_seq": tally.checkpointed_seq,
        "source_seq": tally.source_seq,
        "through_seq": tally.through_seq,
    })
}

/// A row of `_scheduler/jobs`.
pub(in crate::server) fn described(job: &Job) -> Value {
    let stage = job.stage();
    let (mut info, state) = (info(job), stage.state);
    if let Some(error) = &stage.error {
        info["error"] = json!(error.to_string());
    }
    let event = |happened: &Happened| {
        let mut event = json!({"timestamp": iso(happened.at), "type": happened.what});
        if let Some(reason) = &happened.reason {
            event["reason"] = json!(reason);
        }
        event
    };
    json!({
        "id": job.id,
        "database": null,
        "doc_id": null,
        "pid": null,
        "node": null,
        "source": job.asked.source.shown(),
        "target": job.asked.target.shown(),
        "user": job.user,
        "continuous": job.asked.continuous,
        "state": match state {
            State::Running => "running",
            State::Crashing => "crashing",
            State::Completed => "completed",
            State::Failed => "failed",
            State::Stopped => "stopped",
        },
        "start_time": iso(job.started),
        "info": info,
        "history": stage.history.iter().map(event).collect::<Vec<_>>(),
    })
}

/// A row of `_active_tasks`, of a job that runs.
pub(in crate::server) fn task(job: &Job) -> Value {
    let mut task = info(job);
    task["type"] = json!("replication");
    task["replication_id"] = json!(job.id);
    task["source"] = json!(job.asked.source.shown());
    task["target"] = json!(job.asked.target.shown());
    task["user"] = json!(job.user);
    task["continuous"] = json!(job.asked.continuous);
    for absent in ["database", "doc_id", "node", "pid"] {
        task[absent] = Value::Null;
    }
    task["started_on"] = json!(seconds(job.started));
    task["updated_on"] = json!(seconds(SystemTime::now()));
    task
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moments_are_written_as_couchdb_writes_them() {
        let at = UNIX_EPOCH + Duration::from_millis(1_376_253_530_250);
        assert_eq!(http_date(at), "Sun, 11 Aug 2013 20:38:50 GMT");
        assert_eq!(iso(at), "2013-08-11T20:38:50Z");
    }
}
