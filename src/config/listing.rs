//! The settings for people: as an example of the file, and as a list.

use std::fmt::Write as _;

use super::setting::{FILE, Setting, settings_of};
use super::settings::SECTIONS;

/// The example of the file: every setting with its default, commented out with a `#` that no blank follows.
pub fn example() -> String {
    let mut text = format!(
        "# All settings of taskcluster-pulse, with their defaults. Copy what you want to change to `{FILE}` in the\n\
         # working directory, without the `#` before it. An empty value counts as not set. The line above each setting has\n\
         # its environment variable, which overrides the file, and the values that it takes.\n\
         #\n\
         # This file is made from the program: `UPDATE_GOLDEN=1 cargo test --test suite config` writes it anew.\n"
    );
    for section in SECTIONS {
        text.push('\n');
        comment(&mut text, "", section.about);
        let _ = writeln!(text, "{}:", section.key);
        let mut parent = "";
        for setting in section.settings {
            let (above, key) = match setting.key.rsplit_once('.') {
                Some((above, key)) => (above.strip_prefix(section.key).unwrap_or(above).trim_start_matches('.'), key),
                None => ("", setting.key),
            };
            if above != parent {
                let _ = writeln!(text, "\n  {above}:");
                parent = above;
            }
            let indent = if above.is_empty() { "  " } else { "    " };
            text.push('\n');
            comment(&mut text, indent, setting.about);
            comment(&mut text, indent, &format!(" {}: {}.", setting.variable, setting.expected));
            let _ =
                writeln!(text, "{indent}#{key}: {}", if setting.default.is_empty() { "''" } else { setting.default });
        }
    }
    text
}

/// The list of settings, for a terminal.
pub fn listing() -> String {
    let mut text = format!(
        "Settings come from {FILE} and from environment variables, which override the file. An empty value counts as\n\
         not set. In the file, the part before a dot is the section.\n"
    );
    for Setting { key, variable, default, expected, about, .. } in settings_of(SECTIONS) {
        let default = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
        let _ = write!(text, "\n{variable}, {key}{default}\n");
        for line in about.lines().chain([format!(" Give {expected}.").as_str()]) {
            let _ = writeln!(text, "   {line}");
        }
    }
    text
}

/// Lines that begin with a blank, as comments.
fn comment(text: &mut String, indent: &str, lines: &str) {
    for line in lines.lines() {
        let _ = writeln!(text, "{indent}#{line}");
    }
}
