//! Images: the whole state at one position, written in order and replaced as a whole. The same bytes stand in
//! `image/`, go to a client that asks for a snapshot, and to a node that is behind the log.

mod encode;
mod layout;
mod read;
mod receive;
mod source;
mod write;

pub use encode::ImageEncoder;
pub use read::{ImageReader, StdRead};
pub use receive::{ImageReceiver, remove_partial_images};
pub use source::{ImageName, ImageSource};
pub use write::ImageWriter;

use crate::disk::{Cursor, Disk};
use crate::error::WalError;
use quorate_types::{HardState, Identity, Index, Membership, Position, Start};
use receive::part_index_of;
use serde::{Deserialize, Serialize};

/// Format of images this release writes and the newest it reads. Format 1 is read too: see `format_1`.
pub const IMAGE_FORMAT: u16 = 2;

/// What an image says about itself. It may come from another node of the cluster: then vote, start and number
/// are that node's and say nothing about this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageHead {
    /// Who made it.
    pub identity: Identity,
    /// Everything up to here is in it.
    pub position: Position,
    /// Members at that position.
    pub membership: Membership,
    /// Term and vote when it was written.
    pub hard_state: HardState,
    /// The start that wrote it.
    pub start: Start,
    /// Images counted by that node.
    pub number: u64,
}

/// An image file found in `image/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// Its path below the data folder.
    pub path: String,
    /// Its index, by its name.
    pub index: Index,
    /// Its head, or why there is none.
    pub head: Result<ImageHead, WalError>,
}

/// What `newest_image` found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewestImage {
    /// Head and path of the newest image that is whole.
    pub image: Option<(ImageHead, String)>,
    /// What is wrong with newer ones.
    pub damaged: Vec<WalError>,
}

/// All images, newest first, with their heads; their blocks are not read. Makes their names durable first:
/// the log may be trimmed because of what is found here.
///
/// # Errors
/// What the disk says.
pub fn images<D: Disk>(disk: &D) -> Result<Vec<ImageFile>, WalError> {
    let mut found = Vec::new();
    let names = disk.list("image")?;
    if !names.is_empty() {
        disk.sync_dir("image")?;
    }
    for name in names {
        if let Some(index) = index_of(&name) {
            let path = format!("image/{name}");
            let head = open_image(disk, &path).map(|reader| reader.head().clone());
            found.push(ImageFile { path, index, head });
        }
    }
    found.sort_by_key(|file| core::cmp::Reverse(file.index));
    Ok(found)
}

/// Opens an image by its path.
///
/// # Errors
/// What the disk says, `NewerFormat` or `ImageDamaged`.
pub fn open_image<D: Disk>(disk: &D, path: &str) -> Result<ImageReader<Cursor<D::File>>, WalError> {
    ImageReader::open(Cursor::new(disk.open(path)?), path)
}

/// Removes what a life that ended while it wrote an image left of it: it never counts, and can be as large as the
/// whole state.
///
/// # Errors
/// What the disk says.
pub fn remove_unfinished_images<D: Disk>(disk: &D) -> Result<(), WalError> {
    for name in disk.list("image")? {
        if name.ends_with(".tmp") {
            disk.remove(&format!("image/{name}"))?;
        }
    }
    Ok(())
}

/// The newest image whose every block holds, with its path, and what was wrong with newer ones.
///
/// An older image only helps while the log still reaches back to it: `recover` answers `Gap` if it does
/// not, and then the damage listed here is the reason.
///
/// # Errors
/// What the disk says, or `NewerFormat`: an image of a newer release must not be passed over.
pub fn newest_image<D: Disk>(disk: &D) -> Result<NewestImage, WalError> {
    let mut damaged = Vec::new();
    for file in images(disk)? {
        let checked = file.head.and_then(|head| {
            open_image(disk, &file.path)?.verify()?;
            Ok(head)
        });
        match checked {
            Ok(head) => return Ok(NewestImage { image: Some((head, file.path)), damaged }),
            Err(error @ WalError::ImageDamaged { .. }) => damaged.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(NewestImage { image: None, damaged })
}

/// Gives a file that is whole and synced its name, durably, and only then removes what it makes needless: older
/// images, and received parts of such.
fn install<D: Disk>(disk: &D, temporary: &str, index: Index) -> Result<(), WalError> {
    disk.rename(temporary, &image_path(index))?;
    disk.sync_dir("image")?;
    let mut removed = false;
    for name in disk.list("image")? {
        let is_older = index_of(&name).is_some_and(|found| found < index);
        if is_older || part_index_of(&name).is_some_and(|found| found <= index) {
            disk.remove(&format!("image/{name}"))?;
            removed = true;
        }
    }
    if removed {
        disk.sync_dir("image")?;
    }
    Ok(())
}

fn image_path(index: Index) -> String {
    format!("image/image-{index:020}", index = index.0)
}

fn index_of(name: &str) -> Option<Index> {
    name.strip_prefix("image-")?.parse().ok().map(Index)
}
