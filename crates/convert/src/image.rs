//! A whole conversion, step by step.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::assembly::{AssembledPlatform, PlatformParts, assemble_image, assemble_platform};
use crate::converted::Converted;
use crate::error::ConvertError;
use crate::layer::LayerSettings;
use crate::layer_stock::LayerStock;
use crate::options::ConvertOptions;
use crate::plan::{PlatformPlan, resolve};
use crate::ports::{ImageSource, ImageTarget};
use crate::progress::{Phase, Progress};
use crate::work_dir::WorkDir;

/// Converts the image that `source` was opened for and puts it into `target`, its tag last.
///
/// All platforms of an index are converted. What an index names besides images of a platform (attestations,
/// artifacts, images for other systems than Linux) is left out and listed in the result: those are
/// statements about the source, which the new image names as its `subject`.
///
/// Dropping the future stops the conversion: its threads end within a block's work and its work directory
/// is removed when the last of them has ended. The tag is then unchanged.
///
/// # Errors
///
/// [`ConvertError`]. Blobs are put only after every layer was proven, so an image that cannot be converted
/// leaves nothing in the target; a target that fails half-way is left with blobs that nothing names.
pub async fn convert_image(
    source: &dyn ImageSource,
    target: &dyn ImageTarget,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Converted, ConvertError> {
    let stop = CancellationToken::new();
    let _stop_when_dropped = stop.clone().drop_guard();
    progress.phase(Phase::Resolve);
    let plan = resolve(source).await?;
    let work_dir = Arc::new(WorkDir::new_in(&options.work_dir)?);
    let settings = LayerSettings::new(options, work_dir);
    let mut stock = LayerStock::new(source, settings, &plan, progress, stop);
    progress.phase(Phase::Layers {
        count: stock.count(),
        total_bytes: stock.total_bytes(),
    });
    let mut platforms = Vec::with_capacity(plan.platforms.len());
    for platform in &plan.platforms {
        platforms.push(convert_platform(&mut stock, platform).await?);
    }
    drop(stock);
    let (converted, publication) = assemble_image(plan, platforms);
    publication.put(target, progress).await?;
    Ok(converted)
}

/// Converts the layers of one platform and makes its tree and manifests.
async fn convert_platform(
    stock: &mut LayerStock<'_>,
    platform: &PlatformPlan,
) -> Result<AssembledPlatform, ConvertError> {
    let layers = stock.convert(&platform.layers).await?;
    let parts = PlatformParts {
        source: platform.source.clone(),
        manifest: platform.manifest.clone(),
        layers: platform.layers.iter().cloned().zip(layers).collect(),
        scans: stock.take_scans(&platform.layers),
    };
    match tokio::task::spawn_blocking(move || assemble_platform(parts)).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
