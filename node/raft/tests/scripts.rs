//! The stories of `tests/scripts`: commands, and everything that happens then. `QUORATE_REWRITE=1` writes what
//! happens now into them; a diff then shows what changed.

mod cluster;

use cluster::story::Story;
use std::path::{Path, PathBuf};

const FENCE: &str = "----";

/// The story with what its commands do now.
fn play(text: &str) -> String {
    let mut story = Story::default();
    let mut played = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        played.push_str(line);
        played.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut commands = vec![line];
        for line in lines.by_ref().take_while(|line| *line != FENCE) {
            played.push_str(line);
            played.push('\n');
            commands.push(line);
        }
        played.push_str(FENCE);
        played.push('\n');
        for command in commands {
            played.push_str(&story.command(command));
        }
        played.push('\n');
        // What it did before ends with an empty line.
        lines.by_ref().find(|line| line.is_empty());
    }
    played
}

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/scripts"));
    let files = std::fs::read_dir(folder).expect("the folder of the stories");
    let mut stories: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    stories.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    stories.sort();
    stories
}

#[test]
fn stories_end_as_they_are_written() {
    let stories = stories();
    assert!(stories.len() >= 20, "the stories are there");
    let mut changed = Vec::new();
    for path in stories {
        let written = std::fs::read_to_string(&path).expect("a story");
        let played = play(&written);
        if played == written {
            continue;
        }
        if std::env::var_os("QUORATE_REWRITE").is_some() {
            std::fs::write(&path, &played).expect("a story can be written");
        } else {
            let at = written.lines().zip(played.lines()).position(|(before, now)| before != now).unwrap_or(0);
            let now = played.lines().nth(at).unwrap_or("the end");
            changed.push(format!("{}:{}: now {now}", path.display(), at + 1));
        }
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}
