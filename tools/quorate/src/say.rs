//! What a command prints. `println!` would end the process where its output is not read to the end
//! (`quorate … | head`), and with it, for `dev`, all care for the nodes.

use anyhow::{Context, Result};
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints a line. That nobody reads it any more is no error.
///
/// # Errors
/// It cannot be written, on a full disk for example.
pub(crate) fn say(line: impl Display) -> Result<()> {
    say_to(&mut io::stdout().lock(), line)
}

fn say_to(target: &mut impl Write, line: impl Display) -> Result<()> {
    match writeln!(target, "{line}").and_then(|()| target.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("the output cannot be written")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_reader_that_left_is_no_error() {
        let mut text = Vec::new();
        say_to(&mut text, "a").unwrap();
        assert_eq!(text, b"a\n");
        assert!(say_to(&mut Broken(ErrorKind::BrokenPipe), "a").is_ok());
        assert!(say_to(&mut Broken(ErrorKind::StorageFull), "a").is_err());
    }
}
