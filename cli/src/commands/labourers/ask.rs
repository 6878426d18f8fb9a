//! A question to whoever sits at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::failure::Failure;

/// Asks for a yes. Where nobody sits there to answer, that is an error.
pub(super) fn agrees(question: &str) -> Result<bool, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::invalid(
            "Usage",
            "nobody can be asked here: give --yes to change it, or --dry-run to look at the changes only",
        ));
    }
    let mut out = anstream::stderr().lock();
    write!(out, "{question} [y/N] ").and_then(|()| out.flush()).ok();
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).ok();
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
