//! Spans read from a card and images on their way, each of which takes a while: who asked may meanwhile lead no more,
//! ask for another, or have started anew, and who gets the image may have gone on by itself.

use super::Cluster;
use super::disk::Image;
use quorate_raft::{Fetch, ImageWanted};
use quorate_types::{Entry, NodeId, Position};
use std::collections::VecDeque;

/// A node and which of its lives.
type Life = (NodeId, u64);

/// The position before a span, and its entries.
type Span = (Position, Vec<Entry>);

/// What is under way.
#[derive(Debug, Default)]
pub struct Slow {
    fetches: VecDeque<(Life, Fetch, Option<Span>)>,
    /// From whom, to whom, what.
    images: Vec<(Life, Life, Image)>,
    /// Who is to hear that whom it was sent to has it up to there, or has not got it.
    answers: Vec<(Life, NodeId, Option<Position>)>,
}

impl Slow {
    pub fn begin_fetch(&mut self, by: Life, fetch: Fetch, found: Option<Span>) {
        self.fetches.push_back((by, fetch, found));
    }

    pub fn fetch_count(&self) -> usize {
        self.fetches.len()
    }

    /// To whom each image goes.
    pub fn images_to(&self) -> Vec<NodeId> {
        self.images.iter().map(|(_, (to, _), _)| *to).collect()
    }

    pub fn answer_count(&self) -> usize {
        self.answers.len()
    }
}

impl Cluster {
    fn lives(&self, (id, start): Life) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.starts == start && node.raft.is_some())
    }

    fn slow(&mut self) -> &mut Slow {
        self.slow.as_mut().expect("things take a while")
    }

    /// The oldest span has been read.
    pub fn end_fetch(&mut self) {
        let Some((by, fetch, found)) = self.slow().fetches.pop_front() else { return };
        if !self.lives(by) {
            return;
        }
        self.fetched += 1;
        self.input(by.0, |raft| match found {
            Some((after, entries)) => raft.fetched(fetch.to, after, entries),
            None => raft.fetch_failed(fetch.to, fetch.after),
        });
    }

    /// An image begins to go to a peer.
    pub fn begin_image(&mut self, from: NodeId, wanted: ImageWanted) {
        let kept =
            self.nodes[&from].disk.image.clone().filter(|image| image.position.index >= wanted.at_least);
        let by = (from, self.nodes[&from].starts);
        let receiver = self.raft(wanted.to).is_some().then(|| (wanted.to, self.nodes[&wanted.to].starts));
        let image = kept.or_else(|| self.make_image(from));
        match (image, receiver) {
            (Some(image), Some(receiver)) => self.slow().images.push((by, receiver, image)),
            (Some(_), None) | (None, _) => self.slow().answers.push((by, wanted.to, None)),
        }
    }

    /// That image is there, and durable before the core hears of it.
    pub fn end_image(&mut self, at: usize) {
        let (from, to, image) = self.slow().images.swap_remove(at);
        if !self.lives(to) {
            self.slow().answers.push((from, to.0, None));
            return;
        }
        let receiver = self.nodes.get_mut(&to.0).expect("it lives");
        receiver.disk.keep_image(image.clone());
        let raft = receiver.raft.as_mut().expect("it lives");
        if raft.install_image(image.position, image.membership.clone()) {
            receiver.digest = image.digest;
            receiver.applied = image.position;
        }
        self.observe(to.0, None);
        self.slow().answers.push((from, to.0, Some(image.position)));
    }

    /// The sender hears what became of an image.
    pub fn answer_image(&mut self, at: usize) {
        let (from, to, position) = self.slow().answers.swap_remove(at);
        if self.lives(from) {
            self.input(from.0, |raft| match position {
                Some(position) => raft.image_sent(to, position),
                None => raft.image_failed(to),
            });
        }
    }
}
