//! Commands as bytes of a log entry: one format byte, then postcard.
//!
//! Only a transaction can hold itself; its nesting is counted while reading, so that no bytes, however
//! they came into the log, can exhaust the stack.

use crate::{Command, Compare, Stamped, Txn, TxnOperation};
use alloc::vec::Vec;
use core::fmt;
use quorate_types::{ClusterTime, ProposalId, limits};
use serde::Deserialize;

/// First byte of every encoded command.
pub const COMMAND_FORMAT: u8 = 1;

/// Deepest nesting: the request check allows one level for each operation it allows.
const TXN_DEPTH_MAX: usize = limits::TXN_OPERATIONS_MAX + 1;

/// Number of the variant as postcard writes it; a test holds them together.
const COMMAND_TXN: u32 = 2;
const OPERATION_TXN: u32 = 3;

/// Why bytes are no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// Of a format this release does not know: the log was written by a newer one.
    Format(u8),
    /// Not a command of this format.
    Malformed,
    /// A command, and something after it.
    Trailing,
    /// Transactions nested deeper than any request may be.
    TooDeep,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Format(format) => write!(f, "the command has format {format}, not {COMMAND_FORMAT}"),
            DecodeError::Malformed => f.write_str("the bytes are not a command"),
            DecodeError::Trailing => f.write_str("there are bytes after the command"),
            DecodeError::TooDeep => f.write_str("the transaction is nested too deeply"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// The bytes of a command for the log.
///
/// # Panics
/// Never: the memory grows as needed, and every value has a form.
#[must_use]
pub fn encode(stamped: &Stamped) -> Vec<u8> {
    postcard::to_extend(stamped, alloc::vec![COMMAND_FORMAT]).expect("every command has a form in postcard")
}

/// Reads a command from the log.
///
/// # Errors
/// See `DecodeError`; whoever wrote the log is at fault.
pub fn decode(bytes: &[u8]) -> Result<Stamped, DecodeError> {
    let (format, bytes) = bytes.split_first().ok_or(DecodeError::Malformed)?;
    if *format != COMMAND_FORMAT {
        return Err(DecodeError::Format(*format));
    }
    let mut reader = Reader { rest: bytes };
    let id: ProposalId = reader.take()?;
    let time: ClusterTime = reader.take()?;
    let command = if reader.peek_variant()? == COMMAND_TXN {
        reader.take::<u32>()?;
        Command::Txn(reader.take_txn(0)?)
    } else {
        reader.take()?
    };
    if reader.rest.is_empty() { Ok(Stamped { id, time, command }) } else { Err(DecodeError::Trailing) }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<T: Deserialize<'a>>(&mut self) -> Result<T, DecodeError> {
        let (value, rest) = postcard::take_from_bytes(self.rest).map_err(|_| DecodeError::Malformed)?;
        self.rest = rest;
        Ok(value)
    }

    fn peek_variant(&self) -> Result<u32, DecodeError> {
        postcard::take_from_bytes(self.rest).map(|(variant, _)| variant).map_err(|_| DecodeError::Malformed)
    }

    fn take_txn(&mut self, depth: usize) -> Result<Txn, DecodeError> {
        if depth >= TXN_DEPTH_MAX {
            return Err(DecodeError::TooDeep);
        }
        let compares: Vec<Compare> = self.take()?;
        let success = self.take_operations(depth)?;
        let failure = self.take_operations(depth)?;
        Ok(Txn { compares, success, failure })
    }

    fn take_operations(&mut self, depth: usize) -> Result<Vec<TxnOperation>, DecodeError> {
        let count: u64 = self.take()?;
        // The count is not believed: memory grows with what is really there.
        let mut operations = Vec::new();
        for _ in 0..count {
            operations.push(if self.peek_variant()? == OPERATION_TXN {
                self.take::<u32>()?;
                TxnOperation::Txn(self.take_txn(depth + 1)?)
            } else {
                self.take()?
            });
        }
        Ok(operations)
    }
}
