//! A search index that shares its cluster: all names of indices and templates begin with a prefix on the
//! server, and nobody here sees it.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Index, Item, ItemResult, Template};
use crate::Result;

/// The indices whose names begin with a prefix, under the rest of their names.
pub struct Prefixed {
    index: Arc<dyn Index>,
    prefix: String,
}

impl Prefixed {
    /// Narrows an index; an empty prefix gives the index itself.
    pub fn narrow(index: Arc<dyn Index>, prefix: &str) -> Arc<dyn Index> {
        if prefix.is_empty() { index } else { Arc::new(Self { index, prefix: prefix.to_owned() }) }
    }

    fn outer(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

#[async_trait]
impl Index for Prefixed {
    async fn put_template(&self, template: &Template) -> Result<()> {
        let template = Template {
            name: self.outer(&template.name),
            prefix: self.outer(&template.prefix),
            fields: template.fields.clone(),
        };
        self.index.put_template(&template).await
    }

    async fn bulk(&self, items: Vec<Item>) -> Result<Vec<ItemResult>> {
        let items = items.into_iter().map(|item| Item { index: self.outer(&item.index), ..item }).collect();
        self.index.bulk(items).await
    }

    async fn indices(&self, prefix: &str) -> Result<Vec<String>> {
        let found = self.index.indices(&self.outer(prefix)).await?;
        Ok(found.iter().filter_map(|name| name.strip_prefix(&self.prefix)).map(str::to_owned).collect())
    }

    async fn ids(&self, index: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        self.index.ids(&self.outer(index), prefix, after, limit).await
    }

    async fn get(&self, index: &str, id: &str) -> Result<Option<Vec<u8>>> {
        self.index.get(&self.outer(index), id).await
    }

    async fn latest(&self, prefix: &str, field: &str) -> Result<Option<String>> {
        self.index.latest(&self.outer(prefix), field).await
    }
}
