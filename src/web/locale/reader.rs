//! Who reads, as templates find them among their runtime values.

use std::any::Any;

use super::{BasePath, Language, Text};

/// Who reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Reader {
    /// The language of the pages.
    pub language: Language,
    /// What every address of the site begins with.
    pub base: BasePath,
}

/// The name under which templates find their reader.
const NAME: &str = "reader";

impl Reader {
    /// The reader a template is rendered for. Without one it is English, at the root.
    pub(crate) fn of(values: &dyn askama::Values) -> Self {
        askama::get_value::<Self>(values, NAME).cloned().unwrap_or_default()
    }

    /// A text as this reader has it.
    pub fn read(&self, text: &Text) -> String {
        text.in_language(self.language)
    }
}

impl askama::Values for Reader {
    fn get_value<'a>(&'a self, key: &str) -> Option<&'a dyn Any> {
        (key == NAME).then_some(self as &dyn Any)
    }
}
