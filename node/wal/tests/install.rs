//! An image that another node made: received in pieces, gone on with, refused, installed; and the log behind it.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use common::{IDENTITY, Model, append, at, batch, entry, guard_units, image, membership, open, restart};
use quorate_types::{ClusterId, HardState, Identity, Index, NodeId, Position, Start, Term};
use quorate_wal::disk::sim::SimDisk;
use quorate_wal::{
    DiskErrorKind, ImageHead, ImageName, ImageReceiver, ImageSource, ImageWriter, Record, WalError, images,
    newest_image, remove_partial_images, remove_unfinished_images,
};

/// Another node of the cluster, in a later start than this one ever had.
fn head_of(position: Position) -> ImageHead {
    let mut head = image(position, Start { count: 90, incarnation: 900 });
    head.identity.node = NodeId(2);
    head.number = 70;
    head.membership = membership("of the image");
    head.membership.version = 9;
    head.hard_state = HardState { term: Term(position.term.0 + 1), vote: Some(NodeId(2)) };
    head
}

fn content(bytes: usize, salt: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from((at * 7 + at / 251 + salt) % 251).expect("below 251")).collect()
}

/// A card of that other node with an image, and its bytes.
fn sender(head: &ImageHead, bytes: usize, salt: usize) -> (SimDisk, ImageName, Vec<u8>) {
    let disk = SimDisk::new();
    let mut writer = ImageWriter::create(disk.clone(), head).expect("a healthy card");
    writer.write(&content(bytes, salt)).expect("a healthy card");
    writer.finish().expect("a healthy card");
    let mut source = ImageSource::newest(&disk).expect("a healthy card").expect("an image");
    let name = source.name();
    let mut file = vec![0; usize::try_from(name.bytes).expect("small")];
    assert_eq!(source.read_at(0, &mut file).expect("a healthy card"), file.len());
    assert_eq!((source.head(), name.position), (head, head.position));
    (disk, name, file)
}

fn receive(disk: &SimDisk, name: ImageName, file: &[u8]) -> Result<(ImageHead, u64), WalError> {
    let mut receiver = ImageReceiver::open(disk.clone(), name, IDENTITY)?;
    let offset = usize::try_from(receiver.offset()).expect("small");
    for piece in file[offset..].chunks(30_000) {
        receiver.write(piece)?;
        receiver.sync_so_far()?;
    }
    receiver.finish()
}

fn newest(disk: &SimDisk) -> Option<ImageHead> {
    newest_image(disk).expect("a healthy card").image.map(|(head, _)| head)
}

#[test]
fn an_image_is_received_as_it_was_sent() {
    for bytes in [0, 1, 65_536, 200_000] {
        let head = head_of(at(4, 50));
        let (_, name, file) = sender(&head, bytes, 0);
        let disk = SimDisk::new();
        let (received, length) = receive(&disk, name, &file).unwrap();
        assert_eq!((&received, length), (&head, file.len() as u64));
        disk.power_cut(&mut |_, _| false);
        assert_eq!(newest(&disk), Some(head));
        let path = images(&disk).unwrap().remove(0).path;
        assert_eq!(disk.contents(&path).unwrap(), file);
    }
}

/// The link is cut, the process ends, or the power goes: what is there and whole is not sent again.
#[test]
fn a_part_is_gone_on_with() {
    let head = head_of(at(4, 50));
    let (_, name, file) = sender(&head, 300_000, 0);
    for cut in [0, 5, 100, 66_000, 140_000, 299_000, file.len()] {
        for synced in [false, true] {
            for power_fails in [false, true] {
                let disk = SimDisk::new();
                let mut receiver = ImageReceiver::open(disk.clone(), name, IDENTITY).unwrap();
                assert_eq!((receiver.offset(), receiver.name()), (0, name));
                receiver.write(&file[..cut]).unwrap();
                if synced {
                    receiver.sync_so_far().unwrap();
                }
                drop(receiver);
                if power_fails {
                    disk.power_cut(&mut |path, sector| path.is_empty() || sector % 5 != 4);
                }
                assert_eq!(newest(&disk), None, "a part counts for nothing");
                remove_unfinished_images(&disk).unwrap();
                let receiver = ImageReceiver::open(disk.clone(), name, IDENTITY).unwrap();
                let offset = usize::try_from(receiver.offset()).unwrap();
                assert!(offset <= cut);
                if synced || !power_fails {
                    // Whole blocks stay; the end block is sent anew.
                    assert!(offset + 66_000 > cut, "{offset} of {cut}");
                }
                drop(receiver);
                assert_eq!(receive(&disk, name, &file).unwrap().0, head);
            }
        }
    }
}

#[test]
fn a_cut_at_every_operation_leaves_a_part_or_the_image() {
    let head = head_of(at(4, 50));
    let (_, name, file) = sender(&head, 100_000, 0);
    let old = image(at(1, 5), Start { count: 1, incarnation: 1 });
    let (disk, _, _) = sender(&old, 1_000, 0);
    let whole = disk.fork();
    receive(&whole, name, &file).unwrap();
    for operation in disk.operations()..whole.operations() {
        for pattern in 0..3 {
            let cut = disk.fork();
            cut.cut_at(operation);
            assert!(receive(&cut, name, &file).is_err());
            cut.power_cut(&mut |_, sector| sector % 3 < pattern);
            assert!([Some(&head), Some(&old)].contains(&newest(&cut).as_ref()));
            assert_eq!(receive(&cut, name, &file).unwrap().0, head);
            assert_eq!(cut.paths().len(), 1, "{:?}", cut.paths());
        }
    }
}

#[test]
fn what_is_not_what_was_announced_is_refused_and_removed() {
    let head = head_of(at(4, 50));
    let (_, name, file) = sender(&head, 100_000, 0);
    let refused = |name: ImageName, file: &[u8]| {
        let disk = SimDisk::new();
        let error = receive(&disk, name, file).expect_err("it is not what was announced");
        assert_eq!((newest(&disk), disk.paths().len()), (None, 0), "{error}");
        error
    };
    for byte in (0..file.len()).step_by(997).chain(file.len() - 25..file.len()) {
        let mut damaged = file.clone();
        damaged[byte] ^= 1 << (byte % 8);
        let error = refused(name, &damaged);
        assert!(matches!(error, WalError::ImageDamaged { .. } | WalError::NewerFormat { .. }), "{error}");
    }
    // Whole, and another one.
    let (_, _, other) = sender(&head, 100_000, 3);
    assert_eq!(other.len(), file.len());
    assert!(matches!(refused(name, &other), WalError::ImageDamaged { .. }));
    let (_, _, elsewhere) = sender(&head_of(at(4, 51)), 100_000, 0);
    assert!(matches!(refused(name, &elsewhere), WalError::ImageDamaged { .. }));
    // Too short.
    assert!(matches!(refused(name, &file[..80_000]), WalError::ImageDamaged { .. }));
    // Of another cluster.
    let mut strange = head.clone();
    strange.identity.cluster = ClusterId(8);
    let (_, name, file) = sender(&strange, 100, 0);
    let error = refused(name, &file);
    assert!(matches!(&error, WalError::Foreign { found, .. } if *found == strange.identity), "{error}");
}

#[test]
fn more_than_was_announced_is_not_written() {
    let (_, name, file) = sender(&head_of(at(4, 50)), 100, 0);
    let disk = SimDisk::new();
    let mut receiver = ImageReceiver::open(disk.clone(), name, IDENTITY).unwrap();
    receiver.write(&file).unwrap();
    assert!(matches!(receiver.write(&[0]), Err(WalError::ImageDamaged { .. })));
    receiver.abandon();
    assert_eq!(disk.paths().len(), 0);
}

/// A part of another image, or one that a newer own image has made needless, does not stay.
#[test]
fn parts_do_not_heap_up() {
    let disk = SimDisk::new();
    let (_, name, file) = sender(&head_of(at(4, 50)), 100_000, 0);
    let (_, next, _) = sender(&head_of(at(4, 60)), 100_000, 0);
    let mut receiver = ImageReceiver::open(disk.clone(), name, IDENTITY).unwrap();
    receiver.write(&file[..70_000]).unwrap();
    assert_eq!(ImageReceiver::open(disk.clone(), next, IDENTITY).unwrap().offset(), 0);
    assert_eq!(disk.paths().len(), 1);
    for (index, left) in [(59, 2), (61, 1)] {
        ImageWriter::create(disk.clone(), &image(at(4, index), Start { count: 1, incarnation: 1 }))
            .unwrap()
            .finish()
            .unwrap();
        assert_eq!(disk.paths().len(), left, "{:?}", disk.paths());
    }
    drop(ImageReceiver::open(disk.clone(), next, IDENTITY).unwrap());
    remove_partial_images(&disk).unwrap();
    assert_eq!(disk.paths().len(), 1);
}

/// After a sync that failed the kernel may call pages clean that never reached the card: nothing is built on them.
#[test]
fn a_part_whose_sync_failed_is_not_gone_on_with() {
    let (_, name, file) = sender(&head_of(at(4, 50)), 100_000, 0);
    let disk = SimDisk::new();
    let mut receiver = ImageReceiver::open(disk.clone(), name, IDENTITY).unwrap();
    receiver.write(&file[..80_000]).unwrap();
    disk.fail_at(disk.operations(), DiskErrorKind::Io);
    assert!(receiver.sync_so_far().is_err());
    drop(receiver);
    assert_eq!(ImageReceiver::open(disk, name, IDENTITY).unwrap().offset(), 0);
}

/// Its blocks may be whole and its content of no use here, as from a newer release: then the old image stays. Its
/// blocks are read once, by whoever loads them.
#[test]
fn what_cannot_be_loaded_is_not_installed() {
    let old = image(at(1, 5), Start { count: 1, incarnation: 1 });
    let (disk, _, _) = sender(&old, 1_000, 0);
    let head = head_of(at(4, 50));
    let (_, name, file) = sender(&head, 150_000, 0);
    for is_useful in [false, true] {
        let mut receiver = ImageReceiver::open(disk.clone(), name, IDENTITY).unwrap();
        receiver.write(&file).unwrap();
        let before = disk.counters().bytes_read;
        let mut read = receiver.read_back().unwrap();
        let mut loaded = Vec::new();
        while let Some(block) = read.next_block().unwrap() {
            loaded.extend_from_slice(block);
        }
        assert_eq!(loaded, content(150_000, 0));
        assert!(disk.counters().bytes_read - before <= name.bytes, "each block once");
        assert_eq!(newest(&disk), Some(old.clone()));
        if is_useful {
            let before = disk.counters().bytes_read;
            assert_eq!(receiver.install(read).unwrap(), (head.clone(), name.bytes));
            assert_eq!(disk.counters().bytes_read, before, "nothing is read again");
            assert_eq!(newest(&disk), Some(head.clone()));
        } else {
            receiver.abandon();
            assert_eq!((newest(&disk), disk.paths().len()), (Some(old.clone()), 1));
        }
    }
}

#[test]
fn a_source_outlives_its_name() {
    let head = head_of(at(4, 50));
    let (disk, name, file) = sender(&head, 100_000, 0);
    let mut source = ImageSource::newest(&disk).unwrap().unwrap();
    let newer = image(at(4, 60), Start { count: 90, incarnation: 900 });
    ImageWriter::create(disk.clone(), &newer).unwrap().finish().unwrap();
    assert_eq!(disk.paths().len(), 1);
    let mut read = vec![0; file.len() + 10];
    assert_eq!(source.read_at(0, &mut read[..70]).unwrap(), 70);
    assert_eq!(source.read_at(70, &mut read[70..]).unwrap(), file.len() - 70, "to the end and no further");
    assert_eq!((&read[..file.len()], source.name()), (&file[..], name));
    assert_eq!(ImageSource::newest(&disk).unwrap().unwrap().name().position, at(4, 60));
    assert!(ImageSource::newest(&SimDisk::new()).unwrap().is_none());
}

/// Installs: image durable, the log reset behind it, entries, and later the trim.
fn install(disk: &SimDisk, name: ImageName, file: &[u8], model: &mut [Model; 2]) -> Result<(), WalError> {
    let mut writer = restart(disk, None, 2)?;
    receive(disk, name, file)?;
    let position = name.position;
    let steps = [
        vec![
            Record::HardState(HardState { term: Term(6), vote: None }),
            Record::Membership(membership("of the image")),
            Record::Reset { position },
            Record::Entry(entry(at(6, position.index.0 + 1), 90, 1)),
            Record::CommitHint(position.index),
        ],
        vec![Record::Entry(entry(at(6, position.index.0 + 2), 3_000, 1))],
    ];
    for (number, records) in steps.iter().enumerate() {
        model[1].apply(records);
        append(&mut writer, records)?;
        model[0] = model[1].clone();
        if number == 0 {
            writer.trim(position)?;
        }
    }
    Ok(())
}

/// Rule 5 at each point between: the image is found or not, its log is reset or kept, nothing acknowledged is
/// lost, and what the next start begins with stays.
#[test]
fn a_cut_at_every_operation_of_an_install_recovers() {
    // Ahead of the log; within it, with another term there; within it, as it is.
    for position in [at(5, 60), at(5, 12), at(1, 12)] {
        let head = head_of(position);
        let (_, name, file) = sender(&head, 70_000, 0);
        let disk = SimDisk::new();
        guard_units(&disk);
        let mut before = Model::founded();
        let mut writer = restart(&disk, None, 1).unwrap();
        for index in 1..=20 {
            let hard_state = Record::HardState(HardState { term: Term(1), vote: Some(IDENTITY.node) });
            let records = [hard_state, Record::Entry(entry(at(1, index), 3_000, 0))];
            append(&mut writer, &records).unwrap();
            before.apply(&records);
        }
        drop(writer);
        let whole = disk.fork();
        install(&whole, name, &file, &mut [before.clone(), before.clone()]).unwrap();
        let (mut with_image, mut ahead) = (0, 0);
        for operation in disk.operations()..whole.operations() {
            for pattern in 0..3 {
                let cut = disk.fork();
                guard_units(&cut);
                cut.cut_at(operation);
                let mut models = [before.clone(), before.clone()];
                assert!(install(&cut, name, &file, &mut models).is_err());
                cut.power_cut(&mut |_, sector| sector % 3 < pattern);
                let found = newest(&cut);
                with_image += usize::from(found.is_some());
                let models = models.map(|model| seen_with(&model, found.as_ref()));
                check(&cut, found.as_ref(), &models);
                ahead += usize::from(found.is_some() && models[0].entries.is_empty());
            }
        }
        assert!(with_image > 10, "{with_image} cuts came after the image");
        assert!(ahead > 2 || position == at(1, 12), "{ahead} cuts found the image leading the log");
    }
}

/// What a start must find with that image.
fn seen_with(model: &Model, head: Option<&ImageHead>) -> Model {
    let mut model = model.with_image(head.map(|head| head.position));
    if let Some(head) = head {
        // It counts more changes than the log does.
        model.membership = head.membership.clone();
    }
    model
}

fn check(disk: &SimDisk, head: Option<&ImageHead>, models: &[Model; 2]) {
    let mut model = None;
    for incarnation in 50..53 {
        let recovered = open(disk, head, incarnation).expect("nothing was lost");
        let mut found = Model::of(&recovered);
        let known = model.as_ref().map_or(&models[..], core::slice::from_ref);
        assert!(known.contains(&found), "{found:?}\n{known:?}");
        assert_eq!(recovered.image_number, 0, "the image's number is another node's");
        let members = recovered.membership.expect("there is a log");
        let hard_state = recovered.hard_state;
        assert!(hard_state.term >= found.last().term);
        let mut writer = recovered.opener.begin(IDENTITY, members, hard_state).expect("a healthy card");
        let last = found.last();
        let records = [Record::Entry(entry(at(hard_state.term.0, last.index.0 + 1), 100, 9))];
        writer.write(&batch(&records)).expect("a healthy card");
        writer.sync().expect("a healthy card");
        found.apply(&records);
        if let Some(head) = head {
            writer.trim(head.position).expect("a healthy card");
        }
        model = Some(found);
        drop(writer);
        disk.power_cut(&mut |_, _| false);
    }
}

/// An own image of a later life still shows that the log is an older copy; another node's shows nothing.
#[test]
fn only_an_own_image_tells_of_an_older_copy() {
    let disk = SimDisk::new();
    let mut writer = restart(&disk, None, 1).unwrap();
    append(&mut writer, &[Record::Entry(entry(at(1, 1), 10, 0))]).unwrap();
    drop(writer);
    let mut head = head_of(at(1, 1));
    assert_eq!(open(&disk, Some(&head), 2).unwrap().base, at(1, 1));
    head.identity = IDENTITY;
    assert!(matches!(open(&disk, Some(&head), 2).err(), Some(WalError::OlderIncarnation { .. })));
    head.identity = Identity { cluster: ClusterId(8), node: NodeId(2) };
    assert!(matches!(open(&disk, Some(&head), 2).err(), Some(WalError::Foreign { .. })));
    head = image(at(1, 1), Start { count: 1, incarnation: 1 });
    head.number = 4;
    assert_eq!(open(&disk, Some(&head), 2).unwrap().image_number, 4);
    assert_eq!(Index(1), head.position.index);
}
