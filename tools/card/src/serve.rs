//! The process that is a card: brings it up, answers its control socket, and takes everything away however it
//! ends. A process of its own, because whoever uses the card may sit in the kernel waiting for it: in one process
//! with its user, a killed test would wait for itself for ever.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::signal::unix::{SignalKind, signal};

use crate::card::CardOptions;
use crate::control::{Command, CutReport, LINE_BYTES_MAX, Owner, Place, Ready, Reply, forget};
use crate::device::Device;
use crate::figures::Model;
use crate::{fuse, host};

/// A control client that says nothing is not waited for longer.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);

/// The card is hardware: it does not wait for the programs that use it.
const NICENESS: i32 = -15;

/// Why the card ends.
enum Ending {
    Signal,
    /// The process that keeps this card is gone.
    KeeperGone,
    /// Somebody else unmounted the image.
    Unmounted,
    /// Asked to; the answer goes here once everything is away.
    Asked(UnixStream),
}

/// What the control socket's threads share.
struct Card {
    device: Device,
    place: Place,
    /// One cut or revival at a time; the random source of cuts.
    cuts: Mutex<StdRng>,
}

/// Runs a card until it is told to stop. `ready` is called once it can be used. With `kept`, the end of this
/// process's standard input ends the card: its keeper died.
pub(crate) fn serve(options: &CardOptions, kept: bool, ready: impl FnOnce(&Ready)) -> Result<()> {
    host::available().map_err(|reason| anyhow::anyhow!("no simulated card here: {reason}"))?;
    let (endings, ended) = channel();
    watch_signals(endings.clone())?;
    // Exact in time also beside busy stores: threads inherit this.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        eprintln!("no priority ({error}): the card is less exact on a busy machine");
    }
    let place = Place::make(&options.dir, options.mount.as_deref())?;
    claim(&place)?;
    let seed = options.seed.map_or_else(random_seed, Ok)?;
    let device = Device::start(options.size, Model::Free.figures(), seed)?;
    let ending = run(options, kept, seed, &device, &place, endings, &ended, ready);
    // From here on nothing may wait for the card.
    device.hurry(Model::Free.figures());
    let cleared = host::clear_away(&place.image(), &place.mount).and_then(|()| forget(&place));
    match ending {
        Ok(Some(mut asker)) => answer(&mut asker, &reply_of(cleared)),
        Ok(None) => cleared,
        Err(error) => Err(error),
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one card, put together in one place only")]
fn run(
    options: &CardOptions,
    kept: bool,
    seed: u64,
    device: &Device,
    place: &Place,
    endings: Sender<Ending>,
    ended: &Receiver<Ending>,
    ready: impl FnOnce(&Ready),
) -> Result<Option<UnixStream>> {
    let block_device = bring_up(device, place, endings.clone())?;
    device.set_figures(options.figures);
    let card = Card {
        device: device.clone(),
        place: place.clone(),
        // Not the flushes' own sequence: a cut must not change what the card does later.
        cuts: Mutex::new(StdRng::seed_from_u64(!seed)),
    };
    listen(card, endings.clone())?;
    if kept {
        watch_keeper(endings)?;
    }
    ready(&Ready {
        mount: place.mount.clone(),
        socket: place.socket(),
        device: block_device,
        pid: std::process::id(),
        seed,
    });
    match ended.recv().context("nobody is left to end the card")? {
        Ending::Asked(asker) => Ok(Some(asker)),
        Ending::Signal | Ending::KeeperGone => Ok(None),
        Ending::Unmounted => bail!("the card's image was unmounted from outside"),
    }
}

fn random_seed() -> Result<u64> {
    getrandom::u64().map_err(|error| anyhow::anyhow!("no random seed: {error}"))
}

/// Only one card in a folder, also when two are started at once.
fn claim(place: &Place) -> Result<()> {
    let owner = serde_json::to_vec(&Owner::this_process(&place.mount))?;
    let file = place.owner_file();
    let mut opened = fs::OpenOptions::new().write(true).create_new(true).open(&file).with_context(|| {
        format!("{} is there: a card runs here, or crashed; end it with `card stop`", file.display())
    })?;
    opened.write_all(&owner)?;
    Ok(())
}

/// FUSE, loop device, ext4: all at no cost, whatever the model.
fn bring_up(device: &Device, place: &Place, endings: Sender<Ending>) -> Result<PathBuf> {
    let image = place.image();
    fs::write(&image, b"").with_context(|| format!("cannot make {}", image.display()))?;
    let session = fuse::mount(device.clone(), &image).context("cannot mount FUSE")?;
    thread::Builder::new().name("fuse-end".into()).spawn(move || {
        if let Ok(Err(error)) = session.join() {
            eprintln!("FUSE ended: {error}");
        }
        // Nobody listens any more when the card is ending by itself.
        drop(endings.send(Ending::Unmounted));
    })?;
    let block_device = host::attach_loop(&image)?;
    host::make_ext4(&block_device)?;
    host::mount_ext4(&block_device, &place.mount)?;
    host::sync(&place.mount)?;
    device.reset_stats();
    Ok(block_device)
}

/// SIGTERM, SIGINT and SIGHUP end the card in good order; caught from the first moment on.
fn watch_signals(endings: Sender<Ending>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    drop(entered);
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        drop(endings.send(Ending::Signal));
    })?;
    Ok(())
}

/// The keeper holds the other end of standard input; its death, of whatever kind, closes it.
fn watch_keeper(endings: Sender<Ending>) -> Result<()> {
    thread::Builder::new().name("keeper".into()).spawn(move || {
        let mut sink = [0; 64];
        while matches!(std::io::stdin().read(&mut sink), Ok(1..)) {}
        drop(endings.send(Ending::KeeperGone));
    })?;
    Ok(())
}

fn listen(card: Card, endings: Sender<Ending>) -> Result<()> {
    let socket = card.place.socket();
    let listener =
        UnixListener::bind(&socket).with_context(|| format!("cannot bind {}", socket.display()))?;
    let card = Arc::new(card);
    thread::Builder::new().name("control".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let (card, endings) = (Arc::clone(&card), endings.clone());
            // One thread each: counters can be read while a revival mounts.
            let spawned = thread::Builder::new().name("client".into()).spawn(move || {
                if let Err(error) = attend(&card, &endings, stream) {
                    eprintln!("control: {error:#}");
                }
            });
            if let Err(error) = spawned {
                eprintln!("control: {error}");
            }
        }
    })?;
    Ok(())
}

fn attend(card: &Card, endings: &Sender<Ending>, mut stream: UnixStream) -> Result<()> {
    stream.set_read_timeout(Some(CLIENT_LIMIT))?;
    stream.set_write_timeout(Some(CLIENT_LIMIT))?;
    let mut line = String::new();
    BufReader::new((&stream).take(LINE_BYTES_MAX)).read_line(&mut line)?;
    let reply = match serde_json::from_str::<Command>(&line) {
        Ok(Command::Stop) => {
            endings.send(Ending::Asked(stream)).context("the card is ending already")?;
            return Ok(());
        }
        Ok(command) => card.obey(command).unwrap_or_else(|error| Reply::Failed(format!("{error:#}"))),
        Err(error) => Reply::Failed(format!("not understood: {error}")),
    };
    answer(&mut stream, &reply)
}

fn answer(stream: &mut UnixStream, reply: &Reply) -> Result<()> {
    let mut line = serde_json::to_string(reply)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).context("the asker is gone")
}

fn reply_of(result: Result<()>) -> Reply {
    result.map_or_else(|error| Reply::Failed(format!("{error:#}")), |()| Reply::Done)
}

impl Card {
    fn obey(&self, command: Command) -> Result<Reply> {
        match command {
            Command::Stall(length) => self.device.stall(length),
            Command::Set(figures) => self.device.set_figures(figures),
            Command::Change(changes) => {
                let mut figures = self.device.figures();
                for (name, value) in &changes {
                    figures.change(name, value).map_err(anyhow::Error::msg)?;
                }
                self.device.set_figures(figures);
            }
            Command::Figures => return Ok(Reply::Figures(self.device.figures())),
            Command::Stats => return Ok(Reply::Stats(self.device.stats())),
            Command::Cut(seed) => return self.cut(seed).map(Reply::Cut),
            Command::Revive => self.revive()?,
            Command::Stop => bail!("stopping is not the card's to obey but its process's"),
        }
        Ok(Reply::Done)
    }

    fn cut(&self, seed: Option<u64>) -> Result<CutReport> {
        let mut cuts = self.cuts.lock().expect("nobody panics during a cut");
        if !self.device.is_powered() {
            bail!("the power is off already");
        }
        let seed = seed.unwrap_or_else(|| cuts.random());
        let survivors = self.device.cut(seed);
        Ok(CutReport { seed, kept: survivors.kept, lost: survivors.lost })
    }

    /// Unmounts before the power comes back: what the old mount still tries to write meets errors, not the card.
    fn revive(&self) -> Result<()> {
        let _one_at_a_time = self.cuts.lock().expect("nobody panics during a revival");
        let (image, mount) = (self.place.image(), &self.place.mount);
        if self.device.is_powered() && host::is_mounted(mount) {
            bail!("the card has power");
        }
        host::detach(&image, mount).context("end the processes that use the card first")?;
        self.device.power_on();
        let block_device = host::attach_loop(&image)?;
        host::mount_ext4(&block_device, mount)
    }
}
