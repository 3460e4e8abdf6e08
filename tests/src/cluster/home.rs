//! What a node of a cluster has in the file system, and what starts its command line.

use super::Shape;
use std::path::{Path, PathBuf};

/// What a node has in the file system.
pub(super) struct Home {
    pub(super) data_dir: PathBuf,
    pub(super) log: PathBuf,
    pub(super) program: PathBuf,
    pub(super) wrapper: Vec<String>,
}

impl Home {
    pub(super) fn of(shape: &Shape, number: usize, memory: &Path) -> Home {
        let own = shape.folders.get(number - 1);
        let (mut log, mut program) = (memory.join(format!("n{number}.log")), shape.program.path().to_owned());
        if let Some(folder) = own.filter(|_| shape.is_whole) {
            log = folder.join("node.log");
            program = copy_uncached(&program, folder);
        }
        let data_dir = own.map_or_else(|| memory.join(format!("n{number}")), |folder| folder.join("data"));
        let wrapper = shape.wrappers.get(number - 1).cloned().unwrap_or_default();
        Home { data_dir, log, program, wrapper }
    }
}

/// A copy of a program that is on its device and nowhere else: who starts it reads it from there.
fn copy_uncached(program: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join(program.file_name().expect("a program has a name"));
    std::fs::copy(program, &copy).expect("the program can be copied");
    let file = std::fs::File::open(&copy).expect("what was copied is there");
    file.sync_all().expect("what was copied can be synced");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice is taken");
    copy
}
