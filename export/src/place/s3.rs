//! Buckets of S3 and of what speaks its language.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{ClientConfigKey, HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{BackoffConfig, Error, ObjectStore, RetryConfig};
use url::Url;

use crate::error::{ExportError, ExportErrorKind, Result};

/// How long a request is tried again that finds nobody, or an overloaded server.
const PATIENCE: Duration = Duration::from_secs(20);

/// A bucket, and a lake in it.
pub(super) struct Bucket {
    pub(super) url: Url,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) prefix: Path,
}

/// What a URL names; who may go there is told by the usual variables.
pub(super) fn bucket(lake: &str) -> Result<Bucket> {
    let config = |message: String| ExportError::new(ExportErrorKind::Config, message);
    let mut url = Url::parse(lake).map_err(|e| config(format!("the lake's URL: {e}; write s3://bucket/prefix")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(config("the lake's URL holds a key; put it into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead".to_owned()));
    }
    let name = url.host_str().unwrap_or_default().to_owned();
    if name.is_empty() || url.port().is_some() || url.query().is_some() || url.fragment().is_some() {
        // What else it says may be a key.
        return Err(config(format!(
            "the lake's URL s3://{name}{} has more to it than a bucket and a prefix: write s3://bucket/prefix; an endpoint goes into \
             AWS_ENDPOINT_URL, keys into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            url.path()
        )));
    }
    if url.path().contains('%') || lake.contains('%') {
        return Err(config(format!("the prefix of '{lake}' holds a character that URLs escape; use letters, digits and ._-")));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    let prefix = Path::from_url_path(url.path()).map_err(|e| config(format!("the lake's URL '{lake}': {e}")))?;
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(&name).with_retry(RetryConfig {
        backoff: BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(5), base: 2. },
        max_retries: 10,
        retry_timeout: PATIENCE,
    });
    for (key, value) in [(ClientConfigKey::ConnectTimeout, "5 seconds"), (ClientConfigKey::Timeout, "60 seconds")] {
        let key = AmazonS3ConfigKey::Client(key);
        if builder.get_config_value(&key).is_none() {
            builder = builder.with_config(key, value);
        }
    }
    let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint].iter().find_map(|key| builder.get_config_value(key));
    let http = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp)).is_some_and(|allow| allow == "true");
    if let Some(endpoint) = &endpoint
        && !http
        && !endpoint.starts_with("https://")
    {
        return Err(config(
            "AWS_ENDPOINT_URL is no https:// URL; for one that is http://, and so readable on its way, set AWS_ALLOW_HTTP=true".to_owned(),
        ));
    }
    let store = builder.build().map_err(|e| config(format!("the bucket {name}: {e}")))?;
    Ok(Bucket { url, store: Arc::new(store), prefix })
}

/// Whether what was not found is the bucket.
pub(super) fn no_bucket(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
    chain(error).any(|e| e.to_string().contains("NoSuchBucket"))
}

/// What an object store's error means, and words for it that hold no key and no signature; `None` for others.
pub(crate) fn told(error: &(dyn StdError + 'static)) -> Option<(ExportErrorKind, String)> {
    let store = chain(error).find_map(|e| e.downcast_ref::<Error>()).filter(|e| e.to_string().contains("S3") || remote(e))?;
    let http = chain(store).find_map(|e| e.downcast_ref::<HttpError>());
    let all: String = chain(store).map(|e| e.to_string()).collect::<Vec<_>>().join(": ");
    let code = all.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code.to_owned());
    let said = code.as_ref().map(|code| format!("the object store says {code}"));
    if all.contains("169.254.169.254") || all.contains("InstanceCredential") || all.contains("instance metadata") {
        let words = "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where there is an instance role";
        return Some((ExportErrorKind::Denied, words.to_owned()));
    }
    if let Some(code) = &code {
        let denied = [
            "AccessDenied",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "ExpiredToken",
            "InvalidToken",
            "TokenRefreshRequired",
            "RequestTimeTooSkewed",
        ];
        if denied.contains(&code.as_str()) {
            let next = "look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and what that key may do";
            return Some((ExportErrorKind::Denied, format!("the object store says {code}; {next}")));
        }
        if code == "NoSuchBucket" {
            return Some((ExportErrorKind::Config, "there is no such bucket; make it, or name another".to_owned()));
        }
        if ["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"].contains(&code.as_str()) {
            return Some((ExportErrorKind::Config, format!("the object store says {code}; set AWS_REGION to the bucket's")));
        }
    }
    match (store, http.map(HttpError::kind)) {
        (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _) => {
            let words = said.unwrap_or_else(|| "the object store refuses this key".to_owned());
            Some((ExportErrorKind::Denied, format!("{words}; look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what that key may do")))
        }
        (_, Some(HttpErrorKind::Connect | HttpErrorKind::Timeout | HttpErrorKind::Request | HttpErrorKind::Interrupted)) => {
            let cause = chain(store).last().map(ToString::to_string).unwrap_or_default();
            let words = format!(
                "the object store is out of reach ({cause}); look at AWS_ENDPOINT_URL, AWS_REGION and the network, then run this again"
            );
            Some((ExportErrorKind::Unreachable, words))
        }
        (Error::NotFound { path, .. }, _) => Some((ExportErrorKind::Lake, format!("{path} is not there"))),
        (Error::AlreadyExists { path, .. } | Error::Precondition { path, .. }, _) => {
            Some((ExportErrorKind::Conflict, format!("somebody else has written {path} meanwhile; run this again")))
        }
        _ if all.contains("Server returned non-2xx status code: 5") || all.contains("SlowDown") => Some((
            ExportErrorKind::Unreachable,
            format!(
                "{}; it was asked for {} s; run this again",
                said.unwrap_or_else(|| "the object store fails".to_owned()),
                PATIENCE.as_secs()
            ),
        )),
        _ => Some((ExportErrorKind::Lake, said.unwrap_or_else(|| plain(&all)))),
    }
}

/// An error without its XML.
fn plain(all: &str) -> String {
    all.split('<').next().unwrap_or_default().trim_end_matches([' ', ':']).to_owned()
}

fn remote(error: &Error) -> bool {
    chain(error).any(|e| e.is::<HttpError>() || e.to_string().contains("status code"))
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}
