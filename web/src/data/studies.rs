//! Studies, and the values of their single pairs.

use std::sync::Arc;

use gloo_net::http::Request;
use shared::study::values::{self, METRICS};
use shared::study::{Pooled, Study, StudyGrid};
use shared::wire::studies::{StudySource, StudyView};

use crate::data::api;
use crate::data::library::Library;
use crate::data::opened::Opened;

/// Why a study cannot be shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Missing {
    /// No pair of the job is finished yet.
    NotYet,
    /// Anything else, for the reader.
    Problem(String),
}

/// The study of `source`, as `view` wants its pairs pooled; the one that is known, unless it is asked
/// for `anew`.
///
/// # Errors
/// See [`Missing`].
pub async fn load(
    library: Library,
    source: StudySource,
    view: StudyView,
    anew: bool,
) -> Result<Arc<Opened>, Missing> {
    let is_job = matches!(source, StudySource::Job(_));
    let pooling = if is_job { view.pooling() } else { String::new() };
    let known = library.study(&source).filter(|known| known.pooling == pooling);
    if let Some(known) = known.filter(|_| !(anew && is_job)) {
        return Ok(known);
    }
    let (beside, read) = match &source {
        StudySource::Job(id) => {
            let read = api::study(id, &pooling).await.map_err(|problem| match problem.status {
                404 => Missing::NotYet,
                _ => Missing::Problem(api::told(&problem)),
            });
            (format!("api/jobs/{id}/"), read)
        }
        StudySource::Id(id) => {
            let beside = format!("data/studies/{id}/");
            let read = fetch(&format!("{beside}study.json"), None).await;
            let read = read.map(|(bytes, _)| bytes).map_err(|why| {
                Missing::Problem(format!(
                    "{why} If the study was opened from a file before, open that file again."
                ))
            });
            (beside, read)
        }
    };
    let study = Study::read(&read?).map_err(|error| Missing::Problem(format!("{error}.")))?;
    let opened = Arc::new(Opened { study, beside: Some(beside), pooling });
    library.keep_study(source, opened.clone());
    Ok(opened)
}

/// The effects of every pair, those that do not count too, in the cells of a grid.
///
/// # Errors
/// Why they are not there, for the reader.
pub async fn pooled(opened: &Opened, at: usize, grid: &StudyGrid) -> Result<Pooled, String> {
    let study = &opened.study;
    let place = study.values.as_ref().ok_or("The study holds no values of single pairs.")?;
    let name = values::name(at, METRICS[0]);
    let array = place.arrays.get(&name).ok_or("The study holds no such values.")?;
    let bytes = match (place.inline(), &opened.beside) {
        (Some(file), _) => place.of(&name, &file).map(<[u8]>::to_vec),
        (None, Some(beside)) => {
            let range = (array.begin, array.end);
            let (bytes, is_part) = fetch(&format!("{beside}{}", place.file), Some(range)).await?;
            if is_part { Some(bytes) } else { place.of(&name, &bytes).map(<[u8]>::to_vec) }
        }
        (None, None) => {
            return Err(format!(
                "The values of single pairs are in {} beside the manifest, which a file that is \
                 opened alone does not come with.",
                place.file
            ));
        }
    };
    let bytes = bytes.filter(|bytes| bytes.len() == array.end - array.begin);
    let bytes = bytes.ok_or_else(|| format!("{} is not the study's.", place.file))?;
    Ok(study.pooled(grid, &values::numbers(&bytes), 0..study.pairs.len()))
}

/// A file, or some of it where the host gives parts: its bytes, and whether they are the part.
async fn fetch(path: &str, range: Option<(usize, usize)>) -> Result<(Vec<u8>, bool), String> {
    let failed = |why: String| format!("{path} could not be loaded: {why}.");
    let mut request = Request::get(path);
    if let Some((begin, end)) = range.filter(|(begin, end)| begin < end) {
        request = request.header("Range", &format!("bytes={begin}-{}", end - 1));
    }
    let response = request.send().await.map_err(|error| failed(error.to_string()))?;
    if !response.ok() {
        return Err(failed(format!("the host answered {}", response.status())));
    }
    let bytes = response.binary().await.map_err(|error| failed(error.to_string()))?;
    Ok((bytes, response.status() == 206))
}
