//! Parameters of calls, and events, are refused or printed as what parses to the same.

use serde::Serialize;
use serde::de::DeserializeOwned;
use settee::proto::call::{
    AllDocsParams, AttachmentParams, BulkDocsParams, BulkGetParams, ChangesParams, DeleteParams,
    GetParams, OpsParams, PatchParams, PutParams, UploadParams,
};
use settee::proto::checkpoint::Checkpoint;
use settee::proto::event::{JoinOptions, SendRequest, Targets, event_and_payload};

/// Payloads of events may have so many bytes.
const EVENT_BYTES_MAX: usize = 500;

fn same_when_printed<T: Serialize + DeserializeOwned>(text: &str) {
    let Ok(params) = serde_json::from_str::<T>(text) else { return };
    let printed = serde_json::to_string(&params).expect("parameters have text keys only");
    let again: T = serde_json::from_str(&printed)
        .unwrap_or_else(|error| panic!("{printed} of {text} does not parse: {error}"));
    let again = serde_json::to_string(&again).expect("parameters have text keys only");
    assert_eq!(again, printed);
}

// The first byte says whose parameters the rest is.
pub fn run(bytes: &[u8]) {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let checks: [fn(&str); 14] = [
        same_when_printed::<AllDocsParams>,
        same_when_printed::<AttachmentParams>,
        same_when_printed::<BulkDocsParams>,
        same_when_printed::<BulkGetParams>,
        same_when_printed::<ChangesParams>,
        same_when_printed::<DeleteParams>,
        same_when_printed::<GetParams>,
        same_when_printed::<OpsParams>,
        same_when_printed::<PatchParams>,
        same_when_printed::<PutParams>,
        same_when_printed::<UploadParams>,
        same_when_printed::<Checkpoint>,
        same_when_printed::<JoinOptions>,
        event,
    ];
    // Letters begin with `a`, so that seeds can be read.
    checks[usize::from(which.wrapping_sub(b'a')) % checks.len()](text);
}

fn event(text: &str) {
    same_when_printed::<Targets>(text);
    same_when_printed::<SendRequest>(text);
    let Ok(request) = serde_json::from_str::<SendRequest>(text) else { return };
    if request.check(EVENT_BYTES_MAX).is_ok() {
        assert!(request.payload_text().len() <= EVENT_BYTES_MAX);
        let sent = format!("[{}]", event_and_payload(&request));
        let sent: serde_json::Value = serde_json::from_str(&sent).expect("what is sent is JSON");
        assert_eq!(sent.as_array().map(Vec::len), Some(2));
    }
}
