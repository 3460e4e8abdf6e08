//! The node's local socket: `quorated.sock` in its data folder, for whoever may enter that folder's owner's
//! files. The node binds it, the tools connect to it.

use hyper_util::rt::TokioIo;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Channel, Endpoint, Uri};

/// The socket's name in the data folder.
pub const SOCKET_NAME: &str = "quorated.sock";

/// Binds the socket of a data folder, mode 0600. What an earlier start left there is replaced, so the
/// caller must hold the folder's lock: then nobody can be listening any more.
///
/// To be called inside a tokio runtime.
///
/// # Errors
/// What the system says: no such folder, no right to write to it, a file system without sockets.
pub fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    let folder = Folder::open(data_dir)?;
    // Bound in a folder that nobody else can enter, and moved to its place with its mode set: there is no
    // moment at which a stranger could connect.
    let nursery = folder.path(NURSERY_NAME);
    remove_nursery(&nursery)?;
    DirBuilder::new().mode(0o700).create(&nursery)?;
    let inside = Folder::open(&nursery)?;
    let fresh = inside.path(SOCKET_NAME);
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, folder.path(SOCKET_NAME))?;
    fs::remove_dir(&nursery)?;
    Ok(listener)
}

/// Connects to the node that serves a data folder. To be called inside a tokio runtime.
///
/// # Errors
/// `NotFound`: no such folder, or no node ever ran there. `ConnectionRefused`: the node is not running.
/// `PermissionDenied`: the folder or the socket belongs to another user.
pub async fn connect(data_dir: &Path) -> io::Result<UnixStream> {
    let folder = Folder::open(data_dir)?;
    UnixStream::connect(folder.path(SOCKET_NAME)).await
}

/// A gRPC channel over one connection made by [`connect`]. It does not connect again: a node that
/// restarts needs a new channel.
///
/// # Errors
/// As [`connect`]; `InvalidData` if the other side hung up during HTTP/2's greeting.
pub async fn channel(data_dir: &Path) -> io::Result<Channel> {
    let mut stream = Some(TokioIo::new(connect(data_dir).await?));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(stream)
    });
    // The address names nobody; HTTP/2 wants one.
    let connected = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
    connected.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Where the socket is bound before it is moved to its place.
const NURSERY_NAME: &str = "quorated.sock.new";

/// What a start left that was killed while it bound.
fn remove_nursery(nursery: &Path) -> io::Result<()> {
    match fs::remove_dir_all(nursery) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A folder whose files can be named by a socket address, however long its own name is.
struct Folder {
    name: PathBuf,
    /// What `name` goes through, if it is not the folder's own.
    _open: Option<File>,
}

impl Folder {
    fn open(folder: &Path) -> io::Result<Folder> {
        // As bytes of the address: the folder, a slash, a name, the end mark.
        let bytes = folder.as_os_str().as_bytes().len() + 1 + SOCKET_NAME.len() + 1;
        if bytes <= ADDRESS_BYTES_MAX {
            return Ok(Folder { name: folder.to_owned(), _open: None });
        }
        let open = File::open(folder)?;
        let name = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        Ok(Folder { name, _open: Some(open) })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.name.join(name)
    }
}

/// Bytes of a path in a socket address, its end mark among them (unix(7)).
const ADDRESS_BYTES_MAX: usize = 108;
