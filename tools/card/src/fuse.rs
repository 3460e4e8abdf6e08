//! The card as one regular file: the root of a FUSE mount, for a loop device to attach to.
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, INodeNo, KernelConfig, LockOwner,
    MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    Session, TimeOrNow, WriteFlags,
};

use crate::device::{Answer, Ask, Device};

/// Largest write the kernel hands over at once. The loop device may ask for more; then it comes in pieces that
/// continue each other.
const WRITE_BYTES_MAX: u32 = 1 << 20;

/// The card's size never changes: the kernel need not ask again.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// Serves `device` as the file `image` until it is unmounted; the thread's result says why it ended.
///
/// Asynchronous direct I/O is not asked of the kernel: so the loop device's requests come one after the other, in
/// the order the block layer issued them, and a flush after all writes before it.
pub(crate) fn mount(device: Device, image: &Path) -> io::Result<std::thread::JoinHandle<io::Result<()>>> {
    let mut config = Config::default();
    config.mount_options =
        vec![MountOption::FSName("quorate-card".into()), MountOption::NoSuid, MountOption::NoDev];
    let session = Session::new(CardFile { device }, image, &config)?;
    std::thread::Builder::new().name("fuse".into()).spawn(move || session.run())
}

struct CardFile {
    device: Device,
}

impl CardFile {
    fn attributes(&self) -> FileAttr {
        FileAttr {
            ino: INodeNo::ROOT,
            size: self.device.size(),
            blocks: self.device.size() / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::RegularFile,
            perm: 0o600,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// The span of a request as memory bounds, or none when it leaves the card.
    fn bounds(&self, offset: u64, length: usize) -> Option<usize> {
        let end = offset.checked_add(u64::try_from(length).ok()?)?;
        if end > self.device.size() {
            return None;
        }
        usize::try_from(offset).ok()
    }
}

impl Filesystem for CardFile {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        config
            .set_max_write(WRITE_BYTES_MAX)
            .map_err(|most| io::Error::other(format!("FUSE takes writes of at most {most} bytes")))?;
        Ok(())
    }

    fn lookup(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::ENOENT);
    }

    fn getattr(&self, _request: &Request, _inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_EVER, &self.attributes());
    }

    fn setattr(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&FOR_EVER, &self.attributes());
    }

    /// The handle names the power session: see `device`.
    fn open(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(self.device.session()), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = self.device.size().saturating_sub(offset).min(u64::from(size));
        let (Ok(length), Ok(offset)) = (usize::try_from(left), usize::try_from(offset)) else {
            return reply.error(Errno::EINVAL);
        };
        if length == 0 {
            return reply.data(&[]);
        }
        let answer: Answer = Box::new(move |result| match result {
            Ok(data) => reply.data(&data),
            Err(_) => reply.error(Errno::EIO),
        });
        self.device.submit(handle.0, Ask::Read { offset, length }, answer);
    }

    fn write(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (Some(offset), Ok(length)) = (self.bounds(offset, data.len()), u32::try_from(data.len())) else {
            return reply.error(Errno::ENOSPC);
        };
        let answer: Answer = Box::new(move |result| match result {
            Ok(_) => reply.written(length),
            Err(_) => reply.error(Errno::EIO),
        });
        self.device.submit(handle.0, Ask::Write { offset, data: data.to_vec() }, answer);
    }

    /// `close`: nothing to do; durability is `fsync`'s.
    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let answer: Answer = Box::new(move |result| match result {
            Ok(_) => reply.ok(),
            Err(_) => reply.error(Errno::EIO),
        });
        self.device.submit(handle.0, Ask::Flush, answer);
    }

    /// The loop device's discard and write-zeroes look alike here. Both are refused: an SD card has to be written
    /// to hold zeros, and then the kernel does write them.
    fn fallocate(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        self.device.count_discard();
        reply.error(Errno::EOPNOTSUPP);
    }
}
