//! Tables on standard output, and JSON for programs.

use std::io::Write;

use serde::Serialize;

use crate::{cli::OutputFormat, failure::Failure};

/// Prints `value` as JSON, or the table that `rows` makes of it.
pub(crate) fn print<T: Serialize>(
    value: &T,
    output: OutputFormat,
    header: &[&str],
    rows: impl FnOnce(&T) -> Vec<Vec<String>>,
) -> Result<(), Failure> {
    let text = match output {
        OutputFormat::Json => {
            let mut text =
                serde_json::to_string_pretty(value).map_err(|error| Failure::of(&error))?;
            text.push('\n');
            text
        }
        OutputFormat::Text => align(header, &rows(value)),
    };
    print_text(&text)
}

/// Prints text on standard output. A reader that has gone is no failure.
pub(crate) fn print_text(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::of(&error)),
        _ => Ok(()),
    }
}

/// Lines with columns of even width. Columns whose header ends in a space are aligned to the right.
pub(crate) fn align(header: &[&str], rows: &[Vec<String>]) -> String {
    let width_of = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain([header[column].trim_end().chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width_of).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for ((cell, width), name) in cells.zip(&widths).zip(header) {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            let is_right = name.ends_with(' ');
            text.push_str(&if is_right {
                padding.clone() + cell
            } else {
                cell.to_owned() + &padding
            });
            text.push_str("  ");
        }
        format!("{}\n", text.trim_end())
    };
    let mut text = line(&mut header.iter().map(|name| name.trim_end()));
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_even_and_numbers_right() {
        let rows = vec![
            vec!["a".into(), "10".into()],
            vec!["long".into(), "7".into()],
        ];
        assert_eq!(
            align(&["NAME", "SIZE "], &rows),
            "NAME  SIZE\na       10\nlong     7\n"
        );
    }
}
