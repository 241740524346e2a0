//! A setting and a section of settings, as they are documented.

/// The file that is read, in the working directory, if it is there and no other is named.
pub const FILE: &str = "user-config.yml";

/// One setting, as it is documented.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in the file: the section and the key, joined by a dot.
    pub key: &'static str,
    /// The environment variable that sets it.
    pub variable: &'static str,
    /// The default, as YAML; empty if there is none.
    pub default: &'static str,
    /// Describes a valid value, to follow the word "give" in errors.
    pub expected: &'static str,
    /// Whether its value is never shown.
    pub secret: bool,
    /// What it does, as lines of Markdown.
    pub about: &'static str,
}

/// A section of the file.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its key.
    pub key: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Its settings.
    pub settings: &'static [Setting],
}

/// Every setting of these sections, in the order of the file.
pub(super) fn settings_of(sections: &'static [Section]) -> impl Iterator<Item = &'static Setting> {
    sections.iter().flat_map(|section| section.settings)
}
