//! stub
use crate::faults::Faults;
use crate::server::{self, Aborted};
use http::{Method, Request, Response, StatusCode, Uri};
use s3s::Body;
#[derive(Debug, Clone)]
pub(crate) struct LambdaEndpoint;
impl LambdaEndpoint {
    pub(crate) fn is_for(uri: &Uri) -> bool {
        uri.path().starts_with("/2015-03-31/functions")
    }
    pub(crate) fn operation(_m: &Method, _u: &Uri) -> &'static str {
        "Invoke"
    }
    pub(crate) async fn call(
        &self,
        _o: &str,
        _r: Request<Body>,
        _f: &Faults,
    ) -> Result<Response<Body>, Aborted> {
        Ok(server::answer(StatusCode::NOT_FOUND, "application/json", "{}"))
    }
}
