//! Images: tags together with what they point at and their accelerated images.

use oci::{RepositoryName, Tag};
use sqlx::sqlite::SqliteRow;

use super::Catalog;
use crate::sql_value::RowExt;
use crate::{ACCELERATED_SUFFIX, AcceleratedRecord, CatalogError, ImageRecord};

/// Most images in one answer. Lists for people; a longer one is asked for by repository.
const IMAGES_MAX: u32 = 50_000;

impl Catalog {
    /// Lists the images of one repository or of all, by repository and tag.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn images(
        &self,
        repository: Option<&RepositoryName>,
    ) -> Result<Vec<ImageRecord>, CatalogError> {
        let rows = sqlx::query(
            "SELECT repositories.name AS repository, tags.name AS tag, tags.digest, media_type, \
             content_size, tags.updated_ms, tags.source, made.name AS made_tag, \
             made.digest AS made_digest, made.source AS made_source \
             FROM tags JOIN repositories ON repositories.id = tags.repository_id \
             JOIN manifests ON manifests.repository_id = tags.repository_id \
             AND manifests.digest = tags.digest \
             LEFT JOIN tags AS made ON made.repository_id = tags.repository_id \
             AND made.name = tags.name || ?1 AND made.source IS NOT NULL \
             WHERE ?2 IS NULL OR repositories.name = ?2 \
             ORDER BY repositories.name, tags.name LIMIT ?3",
        )
        .bind(ACCELERATED_SUFFIX)
        .bind(repository.map(RepositoryName::as_str))
        .bind(IMAGES_MAX)
        .fetch_all(&self.reads)
        .await?;
        rows.iter().map(record_of).collect()
    }
}

fn record_of(row: &SqliteRow) -> Result<ImageRecord, CatalogError> {
    let made_tag: Option<String> = row.value("made_tag")?;
    let made_digests = row
        .digest_or_none("made_digest")?
        .zip(row.digest_or_none("made_source")?);
    let accelerated = made_tag.zip(made_digests).map(|(tag, (digest, source))| {
        let tag: Tag = tag
            .parse()
            .map_err(|_reason| CatalogError::Damaged { value: tag })?;
        Ok::<_, CatalogError>(AcceleratedRecord {
            tag,
            digest,
            source,
        })
    });
    Ok(ImageRecord {
        repository: row.parsed("repository")?,
        tag: row.parsed("tag")?,
        digest: row.digest("digest")?,
        media_type: row.value("media_type")?,
        content_size: row.size("content_size")?,
        updated: row.time("updated_ms")?,
        source: row.digest_or_none("source")?,
        accelerated: accelerated.transpose()?,
    })
}
