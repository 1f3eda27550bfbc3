//! A revision prints as it was written, and revisions order as their texts do.

use settee::Rev;
use settee::doc::LocalRev;

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(rev) = LocalRev::parse(text) {
        assert_eq!(rev.to_string(), text);
    }
    let revs: Vec<Rev> = text.lines().filter_map(parse).collect();
    for pair in revs.windows(2) {
        let key = |rev: &Rev| (rev.generation(), rev.hash().to_string());
        assert_eq!(pair[0].cmp(&pair[1]), key(&pair[0]).cmp(&key(&pair[1])));
    }
}

fn parse(text: &str) -> Option<Rev> {
    let rev = Rev::parse(text).ok()?;
    assert_eq!(rev.to_string(), text);
    Some(rev)
}
