//! `settee salvage`: what is left of a damaged data directory.

use std::ffi::OsStr;
use std::io::Write as _;
use std::panic;
use std::path::{Path, PathBuf};

use settee::Store;
use settee::store::Salvaged;

use crate::failure::Failure;

/// Make a data directory of what is left of a damaged one
///
/// Makes a data directory of what can still be read of one that is refused as damaged. That one stays
/// as it is. Prints what is left out; the exit code is 0 if nothing is missing, and 1 if something is,
/// or may be. Databases count as new ones, and checkpoints stay behind, so that clients compare
/// everything and push what is missing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The damaged data directory
    #[arg(value_name = "DIR")]
    damaged: PathBuf,
    /// The data directory to make, which must not be there, or be empty
    #[arg(value_name = "NEW_DIR")]
    new: PathBuf,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    leave_out_panics_of_sled();
    let salvaged = Store::salvage(&args.damaged, &args.new).await;
    let salvaged = salvaged.map_err(Failure::NotSalvaged)?;
    let told = tell(&salvaged);
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", told.lines.join("\n")).map_err(Failure::stdout)?;
    if told.is_whole { Ok(()) } else { Err(Failure::Reported) }
}

/// sled panics over damaged pages, for each document in them. Salvaging catches that and tells what it
/// could not read.
fn leave_out_panics_of_sled() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let file = info.location().map(|place| Path::new(place.file()));
        let mut folders = file.into_iter().flat_map(Path::iter).filter_map(OsStr::to_str);
        if !folders.any(|folder| folder.starts_with("sled-")) {
            print(info);
        }
    }));
}

struct Told {
    lines: Vec<String>,
    /// Whether nothing is missing for certain.
    is_whole: bool,
}

fn tell(salvaged: &Salvaged) -> Told {
    let mut lines = Vec::new();
    let mut is_whole = salvaged.log_damage.is_none();
    for database in &salvaged.databases {
        let name = &database.name;
        lines.push(format!("{name}: {} documents", database.docs));
        lines.extend(database.lost.iter().map(|lost| format!("{name}: lost: {lost}")));
        is_whole &= database.lost.is_empty();
    }
    if let Some(damage) = &salvaged.log_damage {
        lines.push(format!("{damage}: writes may be missing that nothing else tells of"));
    }
    let group = salvaged.group;
    lines.push(match salvaged.acknowledged {
        Some(acknowledged) if acknowledged > group => {
            is_whole = false;
            let count = acknowledged - group;
            format!(
                "lost: the last {count} of {acknowledged} groups of writes that were acknowledged"
            )
        }
        Some(acknowledged) => {
            format!(
                "{group} groups of writes, of which {acknowledged} are known to be acknowledged"
            )
        }
        None => {
            is_whole = false;
            format!("{group} groups of writes; how many were acknowledged is not known")
        }
    });
    Told { lines, is_whole }
}

#[cfg(test)]
mod tests {
    use settee::store::{Lost, SalvagedDatabase};
    use settee::{DbName, DocId};

    use super::*;

    fn salvaged(group: u64, acknowledged: Option<u64>, lost: Vec<Lost>) -> Salvaged {
        let name = DbName::parse("todos").expect("a name");
        let databases = vec![SalvagedDatabase { name, docs: 7, lost }];
        Salvaged { group, acknowledged, log_damage: None, databases }
    }

    #[test]
    fn what_is_missing_or_may_be_is_told() {
        let told = tell(&salvaged(9, Some(9), Vec::new()));
        assert!(told.is_whole);
        let groups = "9 groups of writes, of which 9 are known to be acknowledged";
        assert_eq!(told.lines, ["todos: 7 documents", groups]);
        let told = tell(&salvaged(9, None, Vec::new()));
        assert!(!told.is_whole && told.lines[1].ends_with("is not known"), "{:?}", told.lines);

        let told = tell(&salvaged(7, Some(9), Vec::new()));
        assert!(!told.is_whole && told.lines[1].contains("the last 2 of 9"), "{:?}", told.lines);
        let id = Some(DocId::parse("a", 10).expect("an id"));
        let told = tell(&salvaged(9, Some(9), vec![Lost { id, problem: "torn".into() }]));
        assert!(!told.is_whole && told.lines[1] == "todos: lost: document \"a\": torn");
        let damaged = Salvaged {
            log_damage: Some("db does not have its checksum".into()),
            ..salvaged(9, Some(9), Vec::new())
        };
        let told = tell(&damaged);
        assert!(!told.is_whole && told.lines[1].contains("may be missing"), "{:?}", told.lines);
    }
}
